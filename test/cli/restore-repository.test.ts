import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { afterAll, beforeAll, expect, test } from "vitest";

import { offset, type Offset } from "../../src/event/positions.ts";
import { ArchiveBench } from "../restore/support/archive-bench.ts";
import { Random } from "../support/random.ts";
import { CliScene } from "../support/cli-scene.ts";

let bench: ArchiveBench;
let cli: CliScene;
let base: Offset;
let last: Offset;
beforeAll(async () => {
  cli = new CliScene();
  bench = await ArchiveBench.open();
  await using repository = await bench.repository("write");
  await bench.commit("app.db", "CREATE TABLE orders (id INTEGER PRIMARY KEY, body BLOB)");
  base = await bench.commit("app.db", "INSERT INTO orders (body) VALUES (randomblob(90000))");
  await bench.bench.log.append([{ kind: "mark", name: "before" }]);
  last = await bench.commit("app.db", "INSERT INTO orders (body) VALUES (randomblob(90000))");
  await bench.archive(repository);
  await bench.base(repository, base, new Random("a base"));
}, 30_000);
afterAll(async () => {
  await bench[Symbol.asyncDispose]();
  await cli[Symbol.asyncDispose]();
});

const from = (...more: readonly string[]): string[] => ["restore", "--repository", bench.directory(), ...more];

test("a repository alone needs nothing else; --table takes rows out of it", async () => {
  const target = path.join(bench.bench.directory, "restored");
  const { code, stdout } = await cli.run(from("--target", target, "--json"));
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ ok: true, offset: last, base: { offset: base } });
  const image = bench.at(last)?.images.get("app.db") ?? Buffer.alloc(0);
  expect(Buffer.compare(fs.readFileSync(path.join(target, "app.db")), image)).toBe(0);
  const tables = path.join(bench.bench.directory, "tables");
  const taken = await cli.run(from("--target", tables, "--table", "orders", "--to", "mark:before"));
  expect(taken.stdout).toContain("orders of app.db  1 row");
  expect(fs.readdirSync(tables)).toEqual(["orders.db"]);
});

test("--list tells what can be restored, for people and for programs", async () => {
  const { stdout } = await cli.run(from("--list"));
  expect(stdout).toMatch(new RegExp(`^\\S+Z {2}to \\S+Z {2}offsets 1 to ${last} {2}1 base\n$`));
  const json = await cli.run(from("--list", "--json"));
  expect(JSON.parse(json.stdout)).toMatchObject({
    ok: true,
    ranges: [{ first: { offset: 1 }, last: { offset: last } }],
    bases: [base],
  });
});

test("a dry run tells what would be fetched", async () => {
  const { stdout } = await cli.run(from("--target", "never", "--dry-run"));
  expect(stdout).toMatch(new RegExp(`fetches the base of offset ${base}, .*, 1 segment of \\d+`));
});

test("log and marks read a repository", async () => {
  const marks = await cli.run(["marks", "--repository", bench.directory(), "--json"]);
  expect(JSON.parse(marks.stdout)).toMatchObject({ marks: [{ name: "before", offset: base + 1 }] });
  const log = await cli.run(["log", "--repository", bench.directory(), "--json", "--from", "mark:before"]);
  const kinds = log.stdout
    .trim()
    .split("\n")
    .map((line) => (JSON.parse(line) as { kind: string }).kind);
  expect(kinds).toEqual(["mark", "sqlite.commit"]);
});

test("joined with a log it goes on where the repository ends; without, that is said", async () => {
  const where = `embedded:${path.join(bench.bench.directory, "log")}`;
  const newer = await bench.commit("app.db", "INSERT INTO orders (body) VALUES (randomblob(9))");
  const joined = await cli.run(from("--log", where, "--target", path.join(bench.bench.directory, "joined"), "--json"));
  expect(JSON.parse(joined.stdout)).toMatchObject({ ok: true, offset: newer });
  const target = path.join(bench.bench.directory, "alone");
  const alone = await cli.run(from("--log", "embedded:/nowhere", "--target", target, "--json"));
  expect(JSON.parse(alone.stdout)).toMatchObject({
    ok: true,
    offset: last,
    withoutLog: expect.stringContaining("LOG_"),
  });
  expect(alone.stderr).toContain("note: without the log");
  const refused = await cli.refused(["restore", "--no-log", "--target", "never"]);
  expect(refused).toMatchObject({ exit: 2, code: "USAGE" });
});

test("what is no repository is named", async () => {
  const empty = path.join(bench.bench.directory, "empty");
  fs.mkdirSync(empty);
  const refused = await cli.refused(["restore", "--repository", empty, "--target", "never"]);
  expect(refused).toMatchObject({ code: "REPOSITORY_EMPTY" });
  const missing = await cli.refused(from("--target", "never", "--to", String(offset(99))));
  expect(missing).toMatchObject({ code: "OFFSET_NOT_FOUND" });
});

test("while it runs expire keeps away; where it may not write it says so and goes on", async () => {
  const order = path.join(bench.bench.directory, "order");
  fs.writeFileSync(order, "1 restore: block fetched");
  const hook = fileURLToPath(new URL("../support/crash/crash-hook.ts", import.meta.url));
  const env = { NODE_OPTIONS: `--import=${hook}`, TIDEMARK_TEST_CRASH: order };
  const killed = await cli.run(from("--target", path.join(bench.bench.directory, "killed")), { env });
  expect(killed.code).toBe(137);
  const locks = path.join(bench.directory(), "locks");
  expect(fs.readdirSync(locks)).toHaveLength(1);
  // As one that runs has it.
  await using reading = await bench.repository("read");
  const announced = await reading.announce(new AbortController().signal);
  const refused = await cli.run(["expire", "--confirm", "--repository", bench.directory()]);
  await announced[Symbol.asyncDispose]();
  expect(refused).toMatchObject({ code: 6, stderr: expect.stringContaining("in use (shared) by process") as string });

  fs.rmSync(locks, { recursive: true });
  const target = path.join(bench.bench.directory, "of-read-only");
  fs.chmodSync(bench.directory(), 0o555);
  try {
    const { code, stderr } = await cli.run(from("--target", target), { unprivileged: true });
    expect([code, stderr]).toEqual([0, expect.stringContaining("so expire is not kept from")]);
  } finally {
    fs.chmodSync(bench.directory(), 0o755);
  }
  await cli.run(from("--target", path.join(bench.bench.directory, "once more")));
  expect(fs.readdirSync(locks)).toEqual([]);
});
