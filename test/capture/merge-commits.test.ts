import { expect, test } from "vitest";

import { mergeCommits } from "../../src/capture/merge-commits.ts";
import { pagesPerRecord } from "../../src/event/codec.ts";
import type { EventBody, PageImage } from "../../src/event/kinds.ts";
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

test("other records keep their place, and a copy stays what it is", () => {
  const mark: EventBody = { kind: "mark", name: "m" };
  const bodies = drawn(new Random("marks"));
  const copies = bodies.map((body) => (body.kind === "sqlite.commit" ? { ...body, cause: "copy" as const } : body));
  expect(mergeCommits([...bodies, mark]).at(-1)).toBe(mark);
  expect(mergeCommits(copies)).toEqual(copies);
});
