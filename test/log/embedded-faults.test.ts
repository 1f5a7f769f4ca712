import Database from "better-sqlite3";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { open as openFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { offset } from "../../src/event/positions.ts";
import { openEmbeddedLog } from "../../src/log/embedded-log.ts";
import { readEvents } from "../../src/log/log-reader.ts";
import { chain, codeOf, readAll, until } from "../support/log-records.ts";
import type { TidemarkError } from "../../src/runtime/errors.ts";
import { allEvents, bulk, mark, openWriter } from "../support/log-scene.ts";
import { SmallDisk } from "../support/small-disk.ts";

const forever = new AbortController().signal;

interface Directory extends Disposable {
  readonly path: string;
}

function newDirectory(): Directory {
  const root = mkdtempSync(join(tmpdir(), "tidemark-embedded-"));
  return {
    path: join(root, "log"),
    [Symbol.dispose]: () => rmSync(root, { recursive: true, force: true }),
  };
}

interface Child extends AsyncDisposable {
  /** Offsets that it saw acknowledged. */
  readonly acknowledged: number[];
  readonly failure: () => string;
  kill(): Promise<void>;
}

function startAppending(directory: string): Child {
  const script = join(import.meta.dirname, "../support/append-forever.ts");
  const child: ChildProcess = spawn(process.execPath, [script, directory], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const acknowledged: number[] = [];
  let rest = "";
  let failure = "";
  child.stdout?.on("data", (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split("\n");
    rest = lines.pop() ?? "";
    acknowledged.push(...lines.filter((line) => /^\d+$/.test(line)).map(Number));
  });
  child.stderr?.on("data", (chunk: Buffer) => void (failure += chunk.toString()));
  const kill = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "close");
    child.kill("SIGKILL");
    await exited;
  };
  return { acknowledged, failure: () => failure, kill, [Symbol.asyncDispose]: kill };
}

test("a writer killed in the middle of its appends: everything acknowledged is there, and the next one goes on at once", async () => {
  using directory = newDirectory();
  let acknowledged = 0;
  for (let round = 0; round < 5; round += 1) {
    const child = startAppending(directory.path);
    await until(() => child.acknowledged.length > 300 || child.failure() !== "");
    await child.kill();
    expect(child.failure()).toBe("");
    acknowledged = Math.max(acknowledged, ...child.acknowledged);
    await using log = await openEmbeddedLog({
      directory: directory.path,
      set: "app",
      mode: "write",
    });
    expect((await log.bounds()).last).toBeGreaterThanOrEqual(acknowledged);
    const events = await allEvents(log);
    expect(events.map((event) => event.offset)).toEqual(events.map((_, index) => index + 1));
    expect(events.filter(({ body }) => body.kind === "epoch")).toHaveLength(1);
  }
  expect(acknowledged).toBeGreaterThan(1_500);
});

test("readers in another process than the writer are woken, not polling", async () => {
  using directory = newDirectory();
  await using child = startAppending(directory.path);
  await until(() => child.acknowledged.length > 10 || child.failure() !== "");
  await using log = await openEmbeddedLog({ directory: directory.path, set: "app", mode: "read" });
  const stop = new AbortController();
  let batches = 0;
  let position = 0;
  const following = (async () => {
    for await (const batch of readEvents(log, {
      after: offset(0),
      signal: stop.signal,
      follow: true,
    })) {
      batches += 1;
      position = batch.at(-1)?.offset ?? position;
    }
  })();
  const startedAt = performance.now();
  await until(() => batches > 60);
  // Looking once a second it would have taken a minute.
  expect(performance.now() - startedAt).toBeLessThan(20_000);
  await child.kill();
  const { last } = await log.bounds();
  await until(() => position === last);
  stop.abort();
  await following;
});

test("two agents on one log: the second is refused by name while the first lives, in this process and in another", async () => {
  using directory = newDirectory();
  {
    await using child = startAppending(directory.path);
    await until(() => child.acknowledged.length > 0 || child.failure() !== "");
    await expect(openEmbeddedLog({ directory: directory.path, set: "app", mode: "write" })).rejects.toMatchObject({
      code: "AGENT_RUNNING",
      message: expect.stringContaining(directory.path),
    });
  }
  await using log = await openEmbeddedLog({ directory: directory.path, set: "app", mode: "write" });
  expect(await codeOf(openEmbeddedLog({ directory: directory.path, set: "app", mode: "write" }))).toBe("AGENT_RUNNING");
  await using reader = await openEmbeddedLog({
    directory: directory.path,
    set: "app",
    mode: "read",
  });
  expect((await reader.bounds()).last).toBe((await log.bounds()).last);
});

test("the log can be opened again right after it was closed", async () => {
  using directory = newDirectory();
  for (let round = 0; round < 5; round += 1) {
    await using log = await openEmbeddedLog({
      directory: directory.path,
      set: "app",
      mode: "write",
    });
    const writer = await openWriter(log);
    // A writer that goes on begins with a heartbeat of its own.
    expect(await writer.append([mark(`round-${round}`)]).acknowledged).toBe(3 + 2 * round);
  }
});

test("nothing is created for a reader", async () => {
  using directory = newDirectory();
  expect(await codeOf(openEmbeddedLog({ directory: directory.path, set: "app", mode: "read" }))).toBe(
    "LOG_UNREACHABLE",
  );
  expect(existsSync(directory.path)).toBe(false);
  mkdirSync(directory.path);
  expect(await codeOf(openEmbeddedLog({ directory: directory.path, set: "app", mode: "read" }))).toBe(
    "LOG_UNREACHABLE",
  );
  expect(readdirSync(directory.path)).toEqual([]);
});

test("a log.db that is not a log of ours is refused and left as it was", async () => {
  using directory = newDirectory();
  mkdirSync(directory.path);
  const file = join(directory.path, "log.db");
  writeFileSync(file, "this is somebody's diary, and nothing else at all".repeat(50));
  for (const mode of ["read", "write"] as const)
    expect(await codeOf(openEmbeddedLog({ directory: directory.path, set: "app", mode }))).toBe("LOG_FOREIGN");
  rmSync(file);
  const database = new Database(file);
  database.exec("CREATE TABLE cake (flavour TEXT)");
  database.close();
  for (const mode of ["read", "write"] as const)
    expect(await codeOf(openEmbeddedLog({ directory: directory.path, set: "app", mode }))).toBe("LOG_FOREIGN");
  const after = new Database(file, { readonly: true });
  expect(after.pragma("journal_mode", { simple: true })).toBe("delete");
  expect(after.prepare("SELECT name FROM sqlite_schema").pluck().all()).toEqual(["cake"]);
  after.close();
});

test("a log of another set is refused", async () => {
  using directory = newDirectory();
  await (await openEmbeddedLog({ directory: directory.path, set: "app", mode: "write" }))[Symbol.asyncDispose]();
  for (const mode of ["read", "write"] as const)
    expect(await codeOf(openEmbeddedLog({ directory: directory.path, set: "other", mode }))).toBe("LOG_FOREIGN");
});

test("a directory that cannot be made is named", async () => {
  using directory = newDirectory();
  mkdirSync(directory.path);
  const file = join(directory.path, "file");
  writeFileSync(file, "");
  await expect(openEmbeddedLog({ directory: join(file, "log"), set: "app", mode: "write" })).rejects.toMatchObject({
    message: expect.stringContaining(file),
  });
});

test("a writer that finds its log busy or unwritable says why and waits", async () => {
  using directory = newDirectory();
  const problems: string[] = [];
  await using log = await openEmbeddedLog({
    directory: directory.path,
    set: "app",
    mode: "write",
    onProblem: ({ code }) => problems.push(code),
  });
  await log.append(chain(1), offset(0), forever);
  const blocker = new Database(join(directory.path, "log.db"));
  blocker.exec("BEGIN IMMEDIATE");
  const waiting = log.append(chain(1, { from: 2 }), offset(1), forever);
  await until(() => problems.length > 0);
  blocker.close();
  expect(await waiting).toBe(2);
  expect(problems[0]).toBe("LOG_UNREACHABLE");
});

test("a trim while the writer appends, from a process that only reads", async () => {
  using directory = newDirectory();
  await using log = await openEmbeddedLog({ directory: directory.path, set: "app", mode: "write" });
  await log.append(chain(5_000), offset(0), forever);
  await using reader = await openEmbeddedLog({
    directory: directory.path,
    set: "app",
    mode: "read",
  });
  const trimmed = reader.trim(offset(4_000));
  const more = chain(200, { from: 5_001 }).map((record, index) => log.append([record], offset(5_000 + index), forever));
  await Promise.all([trimmed, ...more]);
  expect(await log.bounds()).toMatchObject({ first: 4_001, last: 5_200 });
  expect(await readAll(log, 4_000)).toHaveLength(1_200);
  expect(await codeOf(reader.append(chain(1), offset(5_200), forever))).toBe("LOG_DENIED");
});

test("a damaged log says so", async () => {
  using directory = newDirectory();
  {
    await using log = await openEmbeddedLog({
      directory: directory.path,
      set: "app",
      mode: "write",
    });
    await log.append(chain(2_000), offset(0), forever);
  }
  const file = await openFile(join(directory.path, "log.db"), "r+");
  await file.write(Buffer.alloc(40_000, 0xff), 0, 40_000, 8_192);
  await file.close();
  const reading = async (): Promise<void> => {
    await using log = await openEmbeddedLog({
      directory: directory.path,
      set: "app",
      mode: "read",
    });
    await readAll(log);
  };
  expect(await codeOf(reading())).toBe("LOG_CORRUPT");
});

test("a flipped bit in any record but the newest is found and named", async () => {
  using directory = newDirectory();
  await using log = await openEmbeddedLog({ directory: directory.path, set: "app", mode: "write" });
  await log.append(chain(30), offset(0), forever);
  const other = new Database(join(directory.path, "log.db"));
  const find = other.prepare<[number], Buffer>("SELECT data FROM record WHERE offset = ?").pluck();
  const put = other.prepare("UPDATE record SET data = ? WHERE offset = ?");
  for (let at = 1; at < 30; at += 1) {
    const intact = find.get(at) ?? Buffer.alloc(0);
    for (let byte = at % 5; byte < intact.length; byte += 5) {
      const damaged = Buffer.from(intact);
      damaged[byte] = (damaged[byte] ?? 0) ^ 0x10;
      put.run(damaged, at);
      expect(await codeOf(allEvents(log)), `byte ${byte} of offset ${at}`).toMatch(
        /^(LOG_CORRUPT|RECORD_INVALID|RECORD_VERSION)$/,
      );
    }
    put.run(intact, at);
  }
  other.close();
  expect(await allEvents(log)).toHaveLength(30);
});

test("a full disk: appends wait and say so, and go on when there is room", async () => {
  using directory = newDirectory();
  using disk = new SmallDisk(dirname(directory.path), 4);
  const problems: string[] = [];
  const onProblem = ({ code }: TidemarkError): void => void problems.push(code);
  const path = join(disk.path, "log");
  {
    await using log = await openEmbeddedLog({ directory: path, set: "app", mode: "write", onProblem });
    const writer = await openWriter(log);
    for (let index = 0; index < 20; index += 1) writer.append([bulk(index, 400_000)]);
    await until(() => problems.includes("LOG_FULL"));
    expect(writer.acknowledged.offset).toBeLessThan(22);
    disk.resize(64);
    expect(await writer.flush()).toBe(22);
    expect(await allEvents(log)).toHaveLength(22);
  }
});
