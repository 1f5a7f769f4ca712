import fs from "node:fs";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { offset } from "../../../src/event/positions.ts";
import { CountingStore } from "../../../src/repository/counting-store.ts";
import { FsStore } from "../../../src/repository/fs-store.ts";
import type { Repository } from "../../../src/repository/repository.ts";
import { TidemarkError } from "../../../src/runtime/errors.ts";
import { ArchiveScene } from "../../support/archive-scene.ts";
import { committedImage, comparePages } from "../../support/compare.ts";
import type { ImagedDatabase } from "../../support/database-images.ts";
import { Random } from "../../support/random.ts";
import { REPLICA_CONFIG } from "../../support/replica-config.ts";
import { applied, failure, ReplicaFixture } from "../../support/replica-fixture.ts";
import { waitFor } from "../../support/wait.ts";

let fixture: ReplicaFixture;
let scene: ArchiveScene;
beforeEach(async () => {
  ({ scene, fixture } = await ArchiveScene.open());
});
afterEach(() => scene[Symbol.asyncDispose]());

const { signal } = new AbortController();
const WRITER = "00000000-0000-4000-8000-000000000001";

function fill(database: ImagedDatabase, rows: number): void {
  const count = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows})`;
  database.connection.exec(`${count} INSERT INTO t (body) SELECT randomblob(3000) FROM n`);
}

/** First and last of each segment, in order. */
async function segmentsOf(repository: Repository): Promise<[number, number][]> {
  const found: [number, number][] = [];
  for await (const { first, last } of repository.segments.list(signal)) found.push([first, last]);
  return found;
}

/** A repository that takes no extent before `gate`. */
function waitingForExtents(repository: Repository, gate: Promise<void>): Repository {
  const { config, location, segments, bases, blobs, objects } = repository;
  return {
    config,
    location,
    segments,
    bases,
    objects,
    lock: (mode, stop) => repository.lock(mode, stop),
    announce: (stop) => repository.announce(stop),
    [Symbol.asyncDispose]: () => repository[Symbol.asyncDispose](),
    blobs: {
      has: (id) => blobs.has(id),
      refresh: (stop) => blobs.refresh(stop),
      search: (stop) => blobs.search(stop),
      read: (id, stop) => blobs.read(id, stop),
      readMany: (ids, stop) => blobs.readMany(ids, stop),
      readUnproved: (ids, stop) => blobs.readUnproved(ids, stop),
      figures: () => blobs.figures(),
      marked: (prefix) => blobs.marked(prefix),
      use: () => blobs.use(),
      writer: (stop) => {
        const writer = blobs.writer(stop);
        return {
          add: async (type, ...content) => {
            if (type === "extent") await gate;
            return writer.add(type, ...content);
          },
          copy: (blob, sealed) => writer.copy(blob, sealed),
          finish: (until) => writer.finish(until),
          [Symbol.asyncDispose]: () => writer[Symbol.asyncDispose](),
        };
      },
    },
  };
}

test("what a base says is what the primary was, for every page size, through growth, VACUUM and a hundredth of changes", async () => {
  const random = new Random("bases");
  const sizes = [512, 4096, 65_536];
  const primaries = sizes.map((pageSize) => fixture.source(`${pageSize}.db`, pageSize));
  for (const [at, primary] of primaries.entries()) {
    fill(primary, 700);
    await fixture.log.ship(`${sizes[at] ?? 0}.db`, primary);
  }
  const agent = await fixture.ready();
  scene.start(agent);
  for (let round = 0; round < 3; round += 1) {
    for (const [at, primary] of primaries.entries()) {
      const change = random.pick([
        "",
        "UPDATE t SET body = randomblob(2999) WHERE id % 100 = 3",
        "VACUUM",
        "DELETE FROM t WHERE id % 3 = 0; VACUUM",
      ]);
      if (random.next() < 0.3) fill(primary, 400);
      primary.connection.exec(change);
      await fixture.log.ship(`${sizes[at] ?? 0}.db`, primary);
    }
    await applied(agent, fixture.log.writer.head);
    expect((await scene.base()).offset).toBe(fixture.log.writer.head);
    for (const [at, primary] of primaries.entries()) {
      const file = await scene.databaseOfBase(`${sizes[at] ?? 0}.db`);
      expect(
        comparePages(primary.connection.name, file),
        `round ${round}, page size ${sizes[at] ?? 0}`,
      ).toBeUndefined();
    }
  }
});

test("a hundredth of the pages costs little; the same again, without what was remembered, sends nothing anew", async () => {
  const primary = fixture.source("a.db");
  fill(primary, 4000);
  await fixture.log.ship("a.db", primary);
  const agent = await fixture.ready();
  scene.start(agent);
  const first = await scene.base();
  const bytes = committedImage(primary.connection.name).length;
  expect(first.bytesNew).toBeGreaterThan(bytes / 2);
  primary.connection.exec("UPDATE t SET body = randomblob(3000) WHERE id % 100 = 7");
  await applied(agent, await fixture.log.ship("a.db", primary));
  const second = await scene.base();
  expect(second.bytesNew).toBeLessThan(bytes * 0.03);
  await scene.stop();
  const remembered = path.join(fixture.standby, ".tidemark/bases");
  for (const name of fs.readdirSync(remembered)) fs.writeFileSync(path.join(remembered, name), "no database at all");
  scene.start(agent);
  const third = await scene.base();
  // The extents of changed pages, whole, and what names them.
  expect(third.bytesNew).toBeLessThan(bytes * 0.9);
  expect(comparePages(primary.connection.name, await scene.databaseOfBase("a.db"))).toBeUndefined();
  const fourth = await scene.base();
  expect(fourth.bytesNew).toBe(0);
});

test("the archive goes on where it was, and a second archiver beside it leaves a chain without a gap", async () => {
  const primary = fixture.source("a.db");
  await fixture.log.ship("a.db", primary);
  const agent = await fixture.ready();
  scene.start(agent);
  const other = new ArchiveScene(fixture);
  for (let round = 0; round < 3; round += 1) {
    fill(primary, 20);
    await fixture.log.ship("a.db", primary);
    await scene.base();
    if (round === 0) other.start(agent);
    else await other.base();
    await scene.stop();
    scene.start(agent);
  }
  await other.stop();
  await scene.base();
  await using repository = await scene.open();
  let through = 0;
  for (const [first, last] of await segmentsOf(repository)) {
    expect(first).toBeLessThanOrEqual(through + 1);
    through = Math.max(through, last);
  }
  expect(through).toBe(fixture.log.writer.head);
});

test("a repository that is away holds up neither the other one nor the standby, and is brought up to date later", async () => {
  const primary = fixture.source("a.db");
  await fixture.log.ship("a.db", primary);
  const agent = await fixture.ready();
  let away = true;
  const flaky = scene.repository("flaky", async () => {
    if (away) throw new TidemarkError("STORE_UNREACHABLE", "nobody answers", { hint: "Wait." });
    return scene.open("flaky");
  });
  const archive = scene.start(agent, [flaky, scene.repository()]);
  await waitFor("a base in the one that is there", () => archive.status()[1]?.base);
  expect(archive.status()[0]).toMatchObject({ problem: "nobody answers", archived: undefined });
  fill(primary, 10);
  await applied(agent, await fixture.log.ship("a.db", primary));
  away = false;
  await waitFor("a base in the other one", () => archive.status()[0]?.base);
  expect(archive.status()[0]?.problem).toBeUndefined();
});

test("a repository of another log, and one that is ahead of the log, are left alone", async () => {
  const primary = fixture.source("a.db");
  await fixture.log.ship("a.db", primary);
  scene.start(await fixture.ready());
  await scene.base();
  await scene.stop();
  await using another = await ReplicaFixture.open();
  const source = another.source("a.db");
  await another.log.ship("a.db", source);
  const foreign = new ArchiveScene(another);
  const archive = foreign.start(await another.ready(), [scene.repository()]);
  const problem = await waitFor("the refusal", () => archive.status()[0]?.problem);
  expect(problem).toContain("archives log");
  expect((await failure(foreign.base())).code).toBe("REPOSITORY_FOREIGN");
  await foreign.stop();
});

test("while nothing but heartbeats comes the store is left alone", async () => {
  const primary = fixture.source("a.db");
  await fixture.log.ship("a.db", primary);
  const agent = await fixture.ready();
  const store = new CountingStore(new FsStore(scene.directory()));
  scene.start(agent, [scene.repository("repository", () => scene.open("repository", store))]);
  await scene.base();
  const before = { ...store.counts };
  for (let beat = 0; beat < 20; beat += 1) {
    const head = await fixture.log.append([{ kind: "heartbeat", writer: WRITER, host: "test" }]);
    await applied(agent, head);
  }
  // Recorded: everything that a quiet moment sets going has been.
  using _ = await agent.image(new Map(), signal);
  expect(store.counts).toEqual(before);
  fill(primary, 5);
  await applied(agent, await fixture.log.ship("a.db", primary));
  await scene.base();
  expect(store.counts).not.toEqual(before);
});

test("a log that was trimmed past the archive: it begins anew, with a base", async () => {
  const primary = fixture.source("a.db");
  await fixture.log.ship("a.db", primary);
  const agent = await fixture.ready();
  scene.start(agent);
  await scene.base();
  await scene.stop();
  fill(primary, 20);
  await fixture.log.ship("a.db", primary);
  const head = await fixture.log.ship("a.db", primary);
  await applied(agent, head);
  await fixture.log.log.trim(offset(head - 1));
  scene.start(agent);
  await waitFor("the next base", () => scene.agent.status()[0]?.base?.offset === head);
  expect(comparePages(primary.connection.name, await scene.databaseOfBase("a.db"))).toBeUndefined();
});

test("a base that is given up because the WAL has to be emptied is tried again", async () => {
  const primary = fixture.source("a.db");
  fill(primary, 3000);
  await fixture.log.ship("a.db", primary);
  const agent = await fixture.ready({ config: { ...REPLICA_CONFIG, checkpointBytes: 50_000, walMaxBytes: 500_000 } });
  const gate = Promise.withResolvers<void>();
  const slow = scene.repository("slow", async () => waitingForExtents(await scene.open("slow"), gate.promise));
  const archive = scene.start(agent, [slow]);
  await waitFor("a base to be under way", () => archive.status()[0]?.baseUnderWay);
  for (let round = 0; round < 3; round += 1) {
    fill(primary, 200);
    await applied(agent, await fixture.log.ship("a.db", primary));
  }
  gate.resolve();
  await waitFor("the base to be given up", () => archive.status()[0]?.basesAbandoned === 1);
  await waitFor("the next one", () => archive.status()[0]?.base);
  expect(comparePages(primary.connection.name, await scene.databaseOfBase("a.db", "slow"))).toBeUndefined();
});
