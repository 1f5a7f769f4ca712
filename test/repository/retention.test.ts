import * as fc from "fast-check";
import { expect, test } from "vitest";

import type { KeepConfig } from "../../src/config/config.ts";
import { offset } from "../../src/event/positions.ts";
import { DEFAULT_KEEP, judgeBases, MINIMUM_VERIFIED, type RetainedBase } from "../../src/repository/retention.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** A Saturday. */
const NOW = Date.parse("2026-11-21T12:00:00Z");

/** One an hour, `ages` in hours before NOW. */
function basesAt(ages: readonly number[], verified: (age: number) => boolean = () => true): RetainedBase[] {
  return ages.map((age) => ({
    id: `base-${age}`,
    offset: offset(1_000_000 - age * 10),
    timeMs: NOW - age * HOUR,
    verified: verified(age),
  }));
}

const everyHour = (hours: number): number[] => Array.from({ length: hours }, (_, age) => age);

function keptAges(bases: readonly RetainedBase[], rules: KeepConfig): number[] {
  const { judged } = judgeBases(bases, rules);
  const kept = judged.filter(({ reasons }) => reasons.length > 0);
  return kept.map(({ base }) => (NOW - base.timeMs) / HOUR).toSorted((one, other) => one - other);
}

test("without rules the newest verified bases stay, and the events that lead from the older of them to the present", () => {
  const bases = basesAt(everyHour(10), (age) => age >= 2);
  const { judged, eventsAfter } = judgeBases(bases, {});
  expect(judged.filter(({ reasons }) => reasons.length > 0).map(({ base, reasons }) => [base.id, reasons])).toEqual([
    ["base-0", ["newest"]],
    ["base-2", ["minimum of verified bases"]],
    ["base-3", ["minimum of verified bases"]],
  ]);
  expect(eventsAfter).toBe(1_000_000 - 30);
});

test("fewer verified bases than the minimum: no event is spared", () => {
  expect(
    judgeBases(
      basesAt([0, 1, 2, 3], (age) => age === 3),
      {},
    ).eventsAfter,
  ).toBe(0);
  expect(judgeBases([], DEFAULT_KEEP)).toEqual({ judged: [], eventsAfter: 0 });
});

test("last keeps the newest, within keeps all of a time and the base that its first moment is restored from", () => {
  const bases = basesAt(everyHour(100));
  expect(keptAges(bases, { last: 4 })).toEqual([0, 1, 2, 3]);
  expect(keptAges(bases, { withinMs: 3 * HOUR })).toEqual([0, 1, 2, 3, 4]);
  expect(judgeBases(bases, { withinMs: 3 * HOUR }).eventsAfter).toBe(1_000_000 - 40);
});

test("the first moment of within needs a base that was read back, when there is one", () => {
  const bases = basesAt(everyHour(100), (age) => age < 3 || age % 10 === 0);
  expect(keptAges(bases, { withinMs: 3 * HOUR })).toEqual([0, 1, 2, 3, 10]);
  expect(judgeBases(bases, { withinMs: 3 * HOUR }).eventsAfter).toBe(1_000_000 - 100);
});

test("hours, days, weeks, months and years keep the newest of each that has one", () => {
  const bases = basesAt(everyHour(24 * 800).filter((age) => age % 5 === 0));
  // 12:00 is the newest of its day; 22:00 (age 14, so 15 is the last of five) of the day before.
  expect(keptAges(bases, { hourly: 3 })).toEqual([0, 5, 10]);
  expect(keptAges(bases, { daily: 3 })).toEqual([0, 5, 15, 40]);
  // Monday 2026-11-16 00:00 is 132 hours back.
  expect(keptAges(bases, { weekly: 2 })).toEqual([0, 5, 135]);
  // 2026-11-01 is 20.5 days back.
  expect(keptAges(bases, { monthly: 2 })).toEqual([0, 5, 495]);
  // 2026-01-01 is 324.5 days back.
  expect(keptAges(bases, { yearly: 2 })).toEqual([0, 5, 7790]);
});

test("hours without a base do not count: a primary that was away for a month loses none for it", () => {
  const bases = basesAt([0, 1, 720, 721, 722]);
  expect(keptAges(bases, { hourly: 4 })).toEqual([0, 1, 720, 721]);
});

const anyBases = fc
  .uniqueArray(fc.record({ age: fc.integer({ min: 0, max: 24 * 900 }), verified: fc.boolean() }), {
    selector: ({ age }) => age,
    maxLength: 60,
  })
  .map((drawn) => {
    const verified = new Map(drawn.map(({ age, verified: is }) => [age, is]));
    return basesAt([...verified.keys()], (age) => verified.get(age) === true);
  });
const count = fc.integer({ min: 0, max: 20 });
const anyRules = fc.record(
  {
    last: count,
    withinMs: fc.integer({ min: 1, max: 60 * DAY }),
    hourly: count,
    daily: count,
    weekly: count,
    monthly: count,
    yearly: count,
  },
  { requiredKeys: [] },
) as fc.Arbitrary<KeepConfig>;

test("whatever the rules: newest and verified ones stay, and every event of within has a base before it or all events", () => {
  fc.assert(
    fc.property(anyBases, anyRules, (bases, rules) => {
      const { judged, eventsAfter } = judgeBases(bases, rules);
      expect(judged).toHaveLength(bases.length);
      const kept = judged.filter(({ reasons }) => reasons.length > 0).map(({ base }) => base);
      const verified = bases.filter((base) => base.verified).length;
      expect(kept.filter((base) => base.verified).length).toBeGreaterThanOrEqual(Math.min(MINIMUM_VERIFIED, verified));
      if (bases.length > 0) expect(kept).toContain(judged[0]?.base);
      // What is left out is the beginning: a kept base stands at it, or nothing is.
      expect(eventsAfter === 0 || kept.some((base) => base.offset === eventsAfter)).toBe(true);
      const since = (judged[0]?.base.timeMs ?? 0) - (rules.withinMs ?? 0);
      const first = kept.find((base) => base.offset === eventsAfter);
      if (rules.withinMs !== undefined && first) expect(first.timeMs).toBeLessThan(since);
    }),
    { numRuns: 400 },
  );
});

test("judging again after the others are gone changes nothing", () => {
  fc.assert(
    fc.property(anyBases, anyRules, (bases, rules) => {
      const stay = judgeBases(bases, rules)
        .judged.filter(({ reasons }) => reasons.length > 0)
        .map(({ base }) => base);
      expect(judgeBases(stay, rules).judged.filter(({ reasons }) => reasons.length === 0)).toEqual([]);
    }),
    { numRuns: 400 },
  );
});
