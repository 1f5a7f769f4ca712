import { expect, test } from "vitest";

import { mergeCommits } from "../../src/capture/merge-commits.ts";
import { pagesPerRecord } from "../../src/event/codec.ts";
import type { EventBody, PageImage, SqliteCommit } from "../../src/event/kinds.ts";
import { Random } from "../support/random.ts";

const PAGE_SIZE = 65_536;
const MOST = pagesPerRecord(PAGE_SIZE);

/** Pages by number after these records, as a standby applies them; with how many commits and which checksum. */
function fold(bodies: readonly EventBody[]): { pages: Map<number, number>; commits: number; after: bigint } {
  let pages = new Map<number, number>();
  let parts: PageImage[] = [];
  let [commits, after, transaction] = [0, 0n, 0];
  for (const body of bodies) {
    if (body.kind !== "sqlite.part" && body.kind !== "sqlite.commit") continue;
    if (body.transaction !== transaction) parts = [];
    ({ transaction } = body);
    expect(body.pages.length).toBeLessThanOrEqual(MOST);
    if (body.kind === "sqlite.part") {
      parts.push(...body.pages);
      continue;
    }
    expect(body.before).toBe(after);
    for (const { pageNumber, data } of [...parts, ...body.pages]) pages.set(pageNumber, data[0] ?? 0);
    pages = new Map([...pages].filter(([pageNumber]) => pageNumber <= body.sizePages));
    commits += body.commits;
    ({ after } = body);
    parts = [];
  }
  return { pages, commits, after };
}

/** Commits of one database, some in parts, growing and shrinking; perhaps with parts of one more at the end. */
function drawn(random: Random): EventBody[] {
  const bodies: EventBody[] = [];
  let size = 1;
  const common = { database: "app.db", pageSize: PAGE_SIZE };
  const wal = { salt1: 1, salt2: 2, frame: 0, checksum1: 0, checksum2: 0 };
  const commits = random.integer(1, 6);
  for (let transaction = 1; transaction <= commits; transaction += 1) {
    const grown = Math.max(1, size + random.integer(-6, 9));
    const numbers = Array.from({ length: grown }, (_, index) => index + 1).filter(
      (one) => one > size || random.next() < 0.5,
    );
    const pages = numbers.map((pageNumber) => ({ pageNumber, data: Buffer.alloc(PAGE_SIZE, random.integer(0, 255)) }));
    size = grown;
    let sequence = 0;
    while (pages.length > MOST || (pages.length > 0 && random.next() < 0.3)) {
      bodies.push({ kind: "sqlite.part", ...common, transaction, sequence, pages: pages.splice(0, Math.min(MOST, 3)) });
      sequence += 1;
    }
    const [before, after] = [BigInt(transaction - 1), BigInt(transaction)];
    bodies.push({
      kind: "sqlite.commit",
      ...common,
      transaction,
      parts: sequence,
      cause: "commit",
      commits: 1,
      sizePages: size,
      pages,
      before,
      after,
      wal,
    });
  }
  return bodies;
}

test("commits that are merged leave what they leave one by one, at any cut", () => {
  const random = new Random("merge");
  for (let times = 0; times < 60; times += 1) {
    const bodies = drawn(random);
    // What was sent before: at least the parts of a transaction that is open then.
    const cut = random.integer(0, bodies.length);
    const [sent, queued] = [bodies.slice(0, cut), bodies.slice(cut)];
    const merged = mergeCommits(queued);
    expect(fold([...sent, ...merged])).toEqual(fold(bodies));
    expect(fold([...sent, ...mergeCommits(merged)])).toEqual(fold(bodies));
    expect(merged.filter(({ kind }) => kind === "sqlite.commit").length).toBeLessThanOrEqual(1);
  }
});

test("other records keep their place", () => {
  const mark: EventBody = { kind: "mark", name: "m" };
  expect(mergeCommits([...drawn(new Random("marks")), mark]).at(-1)).toBe(mark);
});

/** As `causes` say, one after the other, and no others. */
function caused(causes: readonly SqliteCommit["cause"][]): EventBody[] {
  const random = new Random("causes");
  let bodies: EventBody[] = [];
  while (bodies.filter(({ kind }) => kind === "sqlite.commit").length < causes.length) bodies = drawn(random);
  const commits = bodies.filter((body) => body.kind === "sqlite.commit").slice(0, causes.length);
  const ends = bodies.indexOf(commits.at(-1) ?? (bodies[0] as EventBody)) + 1;
  const gaps = new Map(
    commits.map((body, at) => [body as EventBody, { cause: causes[at] ?? "commit", gapSinceMs: 10 + at }]),
  );
  return bodies.slice(0, ends).map((body) => {
    const { cause = "commit", gapSinceMs } = gaps.get(body) ?? {};
    if (body.kind !== "sqlite.commit") return body;
    return cause === "commit" ? body : { ...body, cause, ...(gapSinceMs && { gapSinceMs }) };
  });
}

test("a copy and a repair take in the commits behind them, commits a repair; a copy leaves alone what is before it", () => {
  const told = (bodies: EventBody[]): unknown =>
    mergeCommits(bodies).flatMap((body) => (body.kind === "sqlite.commit" ? [[body.cause, body.gapSinceMs]] : []));
  const cases = [
    [["repair", "commit", "commit"], [["repair", 10]]],
    [["copy", "commit"], [["copy", 10]]],
    [["commit", "repair", "commit"], [["repair", 11]]],
    [
      ["commit", "copy", "repair"],
      [
        ["commit", undefined],
        ["copy", 11],
      ],
    ],
    [
      ["copy", "copy"],
      [
        ["copy", 10],
        ["copy", 11],
      ],
    ],
  ] as const;
  for (const [causes, expected] of cases) {
    const bodies = caused(causes);
    expect(told(bodies)).toEqual(expected);
    expect(fold(mergeCommits(bodies))).toEqual(fold(bodies));
  }
});
