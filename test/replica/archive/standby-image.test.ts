import { afterEach, beforeEach, expect, test } from "vitest";

import type { Offset } from "../../../src/event/positions.ts";
import type { StandbyImage } from "../../../src/replica/archive/standby-image.ts";
import type { ReplicaAgent } from "../../../src/replica/replica-agent.ts";
import { TREE_ROOT } from "../../../src/event/tree-path.ts";
import { pageHash } from "../../../src/sqlite/page-index.ts";
import type { ImagedDatabase } from "../../support/database-images.ts";
import { Process } from "../../support/processes.ts";
import { REPLICA_CONFIG } from "../../support/replica-config.ts";
import { applied, ReplicaFixture } from "../../support/replica-fixture.ts";
import { StandbyTreeScene } from "../../support/standby-tree.ts";
import { waitFor } from "../../support/wait.ts";

/** Holds a read transaction, always: the WAL is never emptied. */
const READER = `
import sqlite3, sys, time
connections = [sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10) for _ in range(2)]
connections[0].execute("BEGIN")
connections[0].execute("SELECT count(*) FROM t").fetchone()
print("reading", flush=True)
while True:
    for here, other in ((0, 1), (1, 0)):
        connections[other].execute("BEGIN")
        connections[other].execute("SELECT count(*) FROM t").fetchone()
        connections[here].execute("COMMIT")
        time.sleep(0.002)
`;

let fixture: ReplicaFixture;
let reader: Process | undefined;
beforeEach(async () => {
  fixture = await ReplicaFixture.open();
});
afterEach(async () => {
  await reader?.kill();
  reader = undefined;
  await fixture[Symbol.asyncDispose]();
});

const nothing: ReadonlyMap<string, Offset> = new Map();

function imageOf(agent: ReplicaAgent, known = nothing): Promise<StandbyImage> {
  return agent.image(known, AbortSignal.timeout(20_000));
}

/** Pages whose bytes are not what the image's own hashes say. */
function wrongPages(image: StandbyImage): number[] {
  const wrong: number[] = [];
  for (const { standing, sizePages, pageSize } of image.databases) {
    for (let first = 1; standing && first <= sizePages; first += 64) {
      const bytes = standing.pages.read(first, Math.min(64, sizePages - first + 1));
      for (let at = 0; at < bytes.length; at += pageSize) {
        const page = first + at / pageSize;
        const hash = pageHash(image.seed, page, bytes.subarray(at, at + pageSize));
        if (hash !== standing.hashes[page - 1]) wrong.push(page);
      }
    }
  }
  return wrong;
}

function write(database: ImagedDatabase, rows: number): void {
  const count = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows})`;
  database.connection.exec(`${count} INSERT INTO t (body) SELECT randomblob(3000) FROM n`);
  database.connection.exec("UPDATE t SET body = randomblob(3000) WHERE id % 7 = 1");
}

test("an image stands still while commits are applied, and a checkpoint that comes to nothing in between", async () => {
  const primary = fixture.source("a.db");
  write(primary, 500);
  await fixture.log.ship("a.db", primary);
  const agent = await fixture.ready({ config: { ...REPLICA_CONFIG, checkpointBytes: 100_000 } });
  using image = await imageOf(agent);
  expect(image.position.offset).toBe(agent.status().offset);
  for (let round = 0; round < 5; round += 1) {
    write(primary, 100);
    await applied(agent, await fixture.log.ship("a.db", primary));
    expect(wrongPages(image)).toEqual([]);
  }
  using later = await imageOf(agent);
  expect(later.databases[0]?.checksum).not.toBe(image.databases[0]?.checksum);
  expect(wrongPages(later)).toEqual([]);
  expect(wrongPages(image)).toEqual([]);
});

test("readers that starve every checkpoint do not keep an image from being taken", async () => {
  const primary = fixture.source("a.db");
  write(primary, 200);
  await fixture.log.ship("a.db", primary);
  const agent = await fixture.ready();
  reader = new Process("python3", ["-c", READER, fixture.file("a.db")]);
  await waitFor("a first read", () => reader?.output.includes("reading"));
  write(primary, 50);
  await applied(agent, await fixture.log.ship("a.db", primary));
  using image = await imageOf(agent);
  expect(agent.status().databases[0]?.walBytes).toBeGreaterThan(0);
  expect(wrongPages(image)).toEqual([]);
  await reader.kill();
  for (let round = 0; round < 3; round += 1) {
    write(primary, 50);
    await applied(agent, await fixture.log.ship("a.db", primary));
    expect(wrongPages(image)).toEqual([]);
  }
});

test("an image never blocks apply: at the limit of the WAL it ends, and reading it says so", async () => {
  const primary = fixture.source("a.db");
  await fixture.log.ship("a.db", primary);
  const limits = { checkpointBytes: 100_000, walMaxBytes: 1_000_000 };
  const agent = await fixture.ready({ config: { ...REPLICA_CONFIG, ...limits } });
  using image = await imageOf(agent);
  for (let round = 0; round < 4; round += 1) {
    write(primary, 200);
    await applied(agent, await fixture.log.ship("a.db", primary));
  }
  expect(() => image.databases[0]?.standing?.pages.read(1, 1)).toThrow(/given up/);
  using next = await imageOf(agent);
  expect(wrongPages(next)).toEqual([]);
});

test("a database that is known at its offset is not held; nor is one taken in the middle of a transaction", async () => {
  const primary = fixture.source("a.db");
  await fixture.log.ship("a.db", primary);
  const agent = await fixture.ready();
  using first = await imageOf(agent);
  const known = new Map(first.databases.map(({ name, offset }) => [name, offset]));
  using again = await imageOf(agent, known);
  expect(again.databases.map(({ standing }) => standing)).toEqual([undefined]);
  write(primary, 400);
  const pages = primary.changes();
  const [part, ...rest] = fixture.log.commitBodies("a.db", { pages, cause: "commit", database: primary });
  if (!part || rest.length === 0) throw new Error("the commit should have parts");
  await applied(agent, await fixture.log.append([part]));
  const wanted = imageOf(agent);
  const end = await fixture.log.append(rest);
  using whole = await wanted;
  expect(whole.position.offset).toBe(end);
});

test("a snapshot of the trees stays as it was", async () => {
  await using scene = await StandbyTreeScene.open();
  scene.write("a.txt", "one");
  await scene.publish();
  const agent = await scene.fixture.ready();
  using image = await imageOf(agent);
  const names = (): string[] => {
    const { index } = image.trees ?? expect.fail("there is a tree");
    const [tree = ""] = index.names();
    expect(index.entry(tree, TREE_ROOT)?.kind).toBe("dir");
    return [...index.entries(tree)].map(({ path }) => path);
  };
  const before = names();
  scene.write("b.txt", "two");
  await applied(agent, await scene.publish());
  using later = await imageOf(agent);
  expect(names()).toEqual(before);
  expect([...(later.trees?.index.entries(later.trees.index.names()[0] ?? "") ?? [])]).toHaveLength(before.length + 1);
});
