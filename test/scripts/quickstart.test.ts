import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import Database from "better-sqlite3";
import { afterAll, beforeAll, expect, test } from "vitest";
import { waitFor, within } from "../support/wait.ts";

const SCRIPTS = resolve(import.meta.dirname, "../../scripts");
/** The quickstart promises to end by itself in under two minutes. */
const LIMIT_MS = 120_000;

let directory = "";
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "tidemark-quickstart-test-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

interface Started {
  readonly child: ChildProcess;
  /** Where it may put its directory; empty again when it is done. */
  readonly temporary: string;
  readonly output: { text: string };
  readonly exitCode: Promise<number | null>;
}

async function startQuickstart(name: string, ...args: string[]): Promise<Started> {
  const temporary = join(directory, name);
  await mkdir(temporary);
  const env = { ...process.env, TMPDIR: temporary };
  const child = spawn(join(SCRIPTS, "quickstart"), args, { env, stdio: ["ignore", "pipe", "pipe"] });
  const output = { text: "" };
  for (const stream of [child.stdout, child.stderr])
    stream?.on("data", (data: Buffer) => (output.text += data.toString()));
  const exitCode = new Promise<number | null>((done) => child.once("close", done));
  return { child, temporary, output, exitCode };
}

async function processesNaming(path: string): Promise<string[]> {
  const ids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(ids.map((id) => readFile(`/proc/${id}/cmdline`, "utf8").catch(() => "")));
  return lines.filter((line) => line.includes(`${path}/`));
}

async function expectNothingLeft(temporary: string): Promise<void> {
  expect(await readdir(temporary)).toEqual([]);
  expect(await processesNaming(temporary)).toEqual([]);
}

function startShop(database: string, receipts: string): ChildProcess {
  const args = [join(SCRIPTS, "quickstart-app.ts"), database, `${database}.journal`, receipts];
  return spawn(process.execPath, args, { stdio: ["pipe", "ignore", "inherit"] });
}

test.concurrent(
  "the quickstart proves its restore and its standby, ends by itself and leaves nothing behind",
  { timeout: LIMIT_MS },
  async () => {
    const { temporary, output, exitCode } = await startQuickstart("sample");
    const code = await exitCode;
    expect(code, output.text).toBe(0);
    expect(output.text).toMatch(/rows compared with what the shop wrote down: equal, every one/);
    expect(output.text).toMatch(/rows on the standby compared: all [\d,]+ orders are there, every row equal/);
    expect(output.text).toMatch(/receipts restored with their rows, each with the hash that its row tells/);
    expect(output.text).toMatch(/receipts beside them, every one equal, and no other file/);
    expect(output.text).toMatch(/the books balanced and the newest receipt was there in every one/);
    await expectNothingLeft(temporary);
  },
);

test.concurrent(
  "the quickstart follows a database and a directory of the user's own while its application writes",
  { timeout: LIMIT_MS },
  async () => {
    const database = join(directory, "own.db");
    const receipts = join(directory, "own-receipts");
    const shop = startShop(database, receipts);
    try {
      await waitFor("the application's first order", async () => (await readFile(`${database}.journal`)).length > 0);
      const { temporary, output, exitCode } = await startQuickstart("own", database, receipts);
      const code = await exitCode;
      expect(code, output.text).toBe(0);
      expect(output.text).toMatch(/restored offset \d+ .* files? of .* checksum equal, integrity ok, foreign keys ok/);
      expect(output.text).toMatch(/files on the standby, every one equal to yours/);
      await expectNothingLeft(temporary);
    } finally {
      const ended = new Promise((done) => shop.once("close", done));
      shop.stdin?.end();
      await ended;
    }
  },
);

test.concurrent("Ctrl-C ends the quickstart at once, and nothing is left", async () => {
  const { child, temporary, output, exitCode } = await startQuickstart("interrupted");
  await waitFor("the live view", () => output.text.includes("standby: offset"));
  child.kill("SIGINT");
  expect(await within("the end after SIGINT", 20_000, exitCode), output.text).toBe(130);
  await expectNothingLeft(temporary);
});

test.concurrent("a database that is not in WAL mode is refused, with the way to switch, and not touched", async () => {
  const path = join(directory, "rollback.db");
  const database = new Database(path);
  database.exec("CREATE TABLE t (a); INSERT INTO t VALUES (1)");
  database.close();
  const digest = async (): Promise<string> =>
    createHash("sha256")
      .update(await readFile(path))
      .digest("hex");
  const before = await digest();
  const { temporary, output, exitCode } = await startQuickstart("rollback", path);
  expect(await exitCode).toBe(1);
  expect(output.text).toMatch(/WAL/);
  expect(output.text).toMatch(/journal_mode\s*=\s*wal/i);
  expect(await digest()).toBe(before);
  await expectNothingLeft(temporary);
});
