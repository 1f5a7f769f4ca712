import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { expect, test } from "vitest";

import { FAULT_NAMES } from "../support/torture/faults.ts";
import type { JournalLine } from "../support/torture/journal.ts";
import { chainAfter, GENESIS } from "../support/torture/ledger.ts";
import { planOf, tortureOnce } from "../support/torture/run.ts";
import { type Evidence, violationsOf } from "../support/torture/verdict.ts";
import { LogServers } from "../support/torture/world.ts";

/** So many entries of one place after another, all of them done at the millisecond that is their number. */
function written(place: string, writer: number, after: readonly string[], count: number): [string[], JournalLine[]] {
  const chains = [...after];
  const lines: JournalLine[] = [];
  for (let n = 1; n <= count; n += 1) {
    const previous = chains.at(-1) ?? GENESIS;
    const chain = chainAfter(previous, writer, n);
    lines.push({ at: "begun", chain, previous, seq: chains.length + 1, place });
    lines.push({ at: "done", chain, ms: chains.length + 1 });
    chains.push(chain);
  }
  return [chains, lines];
}

const [first, firstLines] = written("a", 1, [], 4);
const [both, secondLines] = written("b", 2, first, 2);
const [dead, deadLines] = written("z", 3, first.slice(0, 3), 1);
const begins = (writer: string) => ({ writer, reason: "promotion" });
const [one = "", two = "", three = "", four = "", five = "", six = ""] = both;
const diverged = dead.at(-1) ?? "";

/** Two entries, a promotion behind the fourth, two entries more. */
const GOOD: Evidence = {
  journal: [...firstLines, ...secondLines],
  syncs: [{ place: "a", calledMs: 4.5, offset: 6 }],
  seen: [one, three, four, six].map((chain) => ({ place: "c", chain, problems: [], atMs: 0 })),
  log: [
    { offset: 1, epoch: 1 },
    { offset: 2, epoch: 1, begins: begins("A") },
    { offset: 3, epoch: 1, chain: one },
    { offset: 4, epoch: 1, chain: two },
    { offset: 5, epoch: 1, chain: three },
    { offset: 6, epoch: 1, chain: four },
    { offset: 7, epoch: 2, begins: begins("B") },
    { offset: 8, epoch: 2, chain: five },
    { offset: 9, epoch: 2, chain: six },
  ],
  restores: [{ place: "log", offset: 5, chain: three, problems: [] }],
  final: ["b", "c"].map((place) => ({ place, chain: six, problems: [] })),
  stuck: [],
  ends: [],
};
const kinds = (evidence: Partial<Evidence>): string[] => [
  ...new Set(violationsOf({ ...GOOD, ...evidence }).map(({ kind }) => kind)),
];
const logWith = (at: number, change: Partial<Evidence["log"][number]>): Evidence["log"] =>
  GOOD.log.map((point) => (point.offset === at ? { ...point, ...change } : point));

test("a good history breaks nothing", () => {
  expect(violationsOf(GOOD)).toEqual([]);
});

test("a commit that sync confirmed and that is not in the log, or gone from it", () => {
  expect(kinds({ syncs: [{ place: "a", calledMs: 4.5, offset: 5 }] })).toEqual(["confirmed commit lost"]);
  // Done in the moment of the call or later: not promised.
  expect(kinds({ syncs: [{ place: "a", calledMs: 4, offset: 5 }] })).toEqual([]);
  const [, lines] = written("b", 2, first.slice(0, 2), 2);
  const [x = "", y = ""] = lines.flatMap((line) => (line.at === "done" ? [line.chain] : []));
  const log = [...GOOD.log.slice(0, 7), { offset: 8, epoch: 2, chain: x }, { offset: 9, epoch: 2, chain: y }];
  const rest = { journal: [...firstLines, ...lines], log, seen: [], final: [{ place: "b", chain: y, problems: [] }] };
  expect(kinds(rest)).toEqual(["confirmed commit lost"]);
  const told = log.map((point) => (point.offset === 7 ? { ...point, begins: { ...begins("B"), contains: 4 } } : point));
  expect(kinds({ ...rest, log: told })).toEqual([]);
});

test("a state that nobody wrote, that failed, that went back, or that contradicts itself", () => {
  const saw = (...chains: string[]): Partial<Evidence> => ({
    seen: chains.map((chain) => ({ place: "c", chain, problems: [], atMs: 0 })),
  });
  expect(kinds(saw(one, "unheard of"))).toEqual(["state that never was"]);
  expect(kinds(saw(three, two))).toEqual(["state that never was"]);
  expect(kinds({ ...saw(two, diverged, four), journal: [...GOOD.journal, ...deadLines] })).toEqual([
    "state that never was",
  ]);
  const failed = deadLines.map((line) =>
    line.at === "done" ? { at: "failed" as const, chain: diverged, why: "" } : line,
  );
  expect(kinds({ ...saw(three, diverged), journal: [...GOOD.journal, ...failed] })).toEqual(["state that never was"]);
  expect(kinds({ seen: [{ place: "c", chain: two, problems: ["sums"], atMs: 0 }] })).toEqual(["state that never was"]);
});

test("two writers in one epoch, an epoch that goes back, a record of an epoch that is over", () => {
  const [, lines] = written("a", 4, both.slice(0, 5), 1);
  const chain = lines.at(-1)?.chain ?? "";
  const final = [{ place: "b", chain, problems: [] }];
  const more = { journal: [...GOOD.journal, ...lines], log: logWith(9, { chain }), final, seen: [] };
  expect(kinds(more)).toEqual(["two writers in one epoch"]);
  expect(kinds({ log: logWith(9, { epoch: 1 }) })).toEqual(["two writers in one epoch"]);
  expect(kinds({ log: logWith(7, { epoch: 1 }) })).toEqual(["two writers in one epoch"]);
});

test("a restore that differs, a file that is missing, copies that differ, what needs a hand", () => {
  expect(kinds({ restores: [{ place: "log", offset: 5, chain: two, problems: [] }] })).toEqual(["restore differs"]);
  expect(kinds({ restores: [{ place: "log", offset: 5, chain: three, problems: ["?"] }] })).toEqual([
    "restore differs",
  ]);
  expect(kinds({ log: logWith(6, { problems: ["there is no 1/4"] }) })).toEqual(["file missing"]);
  expect(kinds({ final: [{ place: "c", chain: five, problems: [] }] })).toEqual(["copies differ"]);
  expect(kinds({ final: [{ place: "c", chain: six, problems: ["page 3"] }] })).toEqual(["copies differ"]);
  expect(kinds({ stuck: ["no primary"] })).toEqual(["needs a hand"]);
});

test("a plan follows from its seed, and its faults can be chosen", () => {
  expect(planOf(7)).toEqual(planOf(7));
  expect(planOf(7)).not.toEqual(planOf(8));
  expect(new Set(planOf(7, ["cut"]).actions.map(({ fault }) => fault))).toEqual(new Set(["cut"]));
  const drawn = Array.from({ length: 60 }, (_, seed) => planOf(seed).actions.map(({ fault }) => fault));
  expect(new Set(drawn.flat())).toEqual(new Set(FAULT_NAMES));
});

// `scripts/torture` does the same again and again.
test("a primary that is killed, a promotion, and all is well", { timeout: 120_000 }, async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-torture-"));
  await using servers = await LogServers.start(1);
  try {
    const what = { forMs: 500, whom: 0, variant: 0 };
    const actions = [
      { ...what, fault: "kill-agent", atMs: 300 },
      { ...what, fault: "promote", atMs: 500 },
    ] as const;
    const result = await tortureOnce({
      plan: { seed: 1, servers: 1, actions },
      servers,
      directory,
      limitMs: 100_000,
    });
    expect(result.violations).toEqual([]);
    expect(result.figures).toMatchObject({ epochs: 2 });
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
});
