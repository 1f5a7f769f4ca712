import fs from "node:fs";
import path from "node:path";

import { expect } from "vitest";

import { offset } from "../../../src/event/positions.ts";
import type { ObjectStore } from "../../../src/repository/object-store.ts";
import type { Repository } from "../../../src/repository/repository.ts";
import { eachOf } from "../../../src/runtime/each-of.ts";
import type { Random } from "../../support/random.ts";
import { type Picture, pictureOf } from "../../support/tree-scene.ts";
import { ArchiveBench } from "./archive-bench.ts";
import { expectRestored } from "./tree-bench.ts";

const SERIES = "(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) SELECT i FROM n)";
const rows = (count: number): string => SERIES.replace("$1", String(count));

const STATEMENTS: readonly [string, ...string[]] = [
  `INSERT INTO t (body) SELECT randomblob(700) FROM ${rows(30)}`,
  `INSERT INTO t (body) SELECT randomblob(20) FROM ${rows(3)}`,
  "UPDATE t SET body = randomblob(900) WHERE id % 5 = 1",
  "DELETE FROM t WHERE id % 3 = 0",
  "DELETE FROM t; VACUUM",
  "VACUUM",
  // More than fits into one record, and nothing but zeros.
  `INSERT INTO t (body) SELECT zeroblob(300000) || randomblob(9) FROM ${rows(4)}`,
];
const CHANGES: readonly [string, ...string[]] = [
  "mkdir -p d/e; head -c $((RANDOM * 20)) /dev/urandom > d/file$((RANDOM % 5))",
  "echo $RANDOM > small$((RANDOM % 5))",
  "rm -rf d",
  "ln -f small1 hard 2>/dev/null || echo 1 > small1",
  "ln -sfn small1 link",
  "head -c 900000 /dev/urandom > large; cp large copy",
  "cp -f large d/again 2>/dev/null || mkdir -p d",
];
const DATABASES: readonly [readonly [string, number], ...(readonly [string, number])[]] = [
  ["app.db", 4096],
  ["tenants/small.db", 512],
  ["large-pages.db", 65_536],
];

async function makeHistory(scene: ArchiveBench, random: Random, steps: number): Promise<void> {
  for (const [name, pageSize] of DATABASES.slice(0, 2))
    await scene.commit(name, "CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)", pageSize);
  await scene.change("echo first > small1");
  for (let step = 0; step < steps; step += 1) {
    if (step === 10) await scene.commit("large-pages.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)", 65_536);
    const [name, pageSize] = random.pick(DATABASES);
    if (random.integer(0, 2) === 0) await scene.change(`RANDOM=${random.integer(1, 32_000)}; ${random.pick(CHANGES)}`);
    else if (step >= 10 || name !== "large-pages.db") await scene.commit(name, random.pick(STATEMENTS), pageSize);
  }
}

interface Restored {
  readonly directory: string;
  readonly to: number;
  /** What the log alone gives: it counts between the records of one change of the tree. */
  readonly picture: Picture;
  readonly what: string;
}

function expectAsRecorded(scene: ArchiveBench, { directory, to, picture, what }: Restored): void {
  const recorded = scene.at(to);
  for (const [name, image] of recorded?.images ?? [])
    expect(Buffer.compare(fs.readFileSync(path.join(directory, name)), image), `${what}: ${name}`).toBe(0);
  expectRestored(directory, recorded?.offset === to ? (recorded.picture ?? picture) : picture);
}

interface Source {
  readonly name: string;
  readonly call: Parameters<ArchiveBench["restore"]>[1];
}

/** The log alone comes first. */
function sourcesOf(repository: Repository, isArchived: boolean): readonly [Source, Source, ...Source[]] {
  return [
    { name: "log", call: {} },
    { name: "both", call: { repositories: [repository], withLog: true } },
    ...(isArchived ? [{ name: "repository", call: { repositories: [repository] } }] : []),
  ];
}

interface Expected {
  readonly source: Source;
  /** Undefined: only a recorded one is known. */
  readonly picture?: Picture;
  /** Learns which base it was. */
  readonly beginnings?: Set<number>;
}

/** Returns the trees as they were restored. */
async function restoreFrom(
  scene: ArchiveBench,
  to: number,
  { source: { name, call }, picture, beginnings }: Expected,
): Promise<Picture> {
  const { directory, offset: at, base } = await scene.restore(to, call);
  const found = pictureOf(path.join(directory, "uploads"));
  expectAsRecorded(scene, { directory, to, picture: picture ?? found, what: `${name} to ${to}` });
  expect(at).toBe(to);
  beginnings?.add(base?.offset ?? 0);
  fs.rmSync(directory, { recursive: true });
  return found;
}

/** A restore mostly waits: for its process that checks databases, and for the store. */
const AT_ONCE = 4;

export interface LifeOptions {
  readonly random: Random;
  /** Changes of databases and of the tree. */
  readonly steps: number;
  /** Offsets that are restored, from each source that has them. */
  readonly points: number;
  /** Opens the store of the repository; undefined: a directory. */
  readonly store?: (() => ObjectStore) | undefined;
}

/**
 * A history in a log, most of it archived, some bases: random offsets of it restored from the log alone, the repository
 * alone, and both are what was recorded, and from both again when the log was trimmed. Returns the offset of the newest
 * base that one began with; 0: with none.
 */
export async function archivedLife({ random, steps, points, store }: LifeOptions): Promise<number> {
  await using scene = await ArchiveBench.open();
  await makeHistory(scene, random, steps);
  const last = scene.recorded.at(-1)?.offset ?? offset(0);
  const archivedThrough = offset(last - 12);
  await using writing = await scene.repository("write", store?.());
  await scene.archive(writing, { through: archivedThrough, perSegment: 7 });
  // Another archiver's, which overlaps.
  await scene.archive(writing, { after: 30, through: archivedThrough - 5, perSegment: 11 });
  // Where no transaction in parts is under way, as the archive makes them.
  const [first = offset(0), ...places] = scene.recorded.map((one) => one.offset).filter((at) => at <= archivedThrough);
  for (let n = 0; n < 5; n += 1) await scene.base(writing, random.pick([first, ...places]), random);
  await using repository = await scene.repository("read", store?.());
  const beginnings = new Set<number>();
  const offsets = [...Array.from({ length: points }, () => random.integer(8, last)), last];
  const pictures = new Map<number, Picture>();
  await eachOf(offsets, AT_ONCE, async (to) => {
    const [alone, ...others] = sourcesOf(repository, to <= archivedThrough);
    const picture = await restoreFrom(scene, to, { source: alone });
    for (const source of others) await restoreFrom(scene, to, { source, picture, beginnings });
    pictures.set(to, picture);
  });
  await scene.bench.log.log.trim(offset(random.integer(1, archivedThrough)));
  const [, both] = sourcesOf(repository, false);
  await eachOf(
    pictures,
    AT_ONCE,
    async ([to, picture]) => void (await restoreFrom(scene, to, { source: both, picture })),
  );
  expect(scene.damaged).toEqual([]);
  return Math.max(...beginnings);
}
