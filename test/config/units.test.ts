import { expect, test } from "vitest";

import { formatDuration, formatSize, parseDuration, parseSize } from "../../src/config/units.ts";

test.each([
  ["4096", 4096],
  ["64KiB", 65_536],
  ["64 kib", 65_536],
  ["1.5MB", 1_500_000],
  ["50GiB", 50 * 1024 ** 3],
  ["2T", 2 * 1024 ** 4],
])("%s is %i bytes", (text, bytes) => {
  expect(parseSize(text)).toBe(bytes);
});

test.each(["", "GiB", "-1", "1e9", "10 parsecs", "0x10", "99999999999TiB", "1,5MB"])("%j is no size", (text) => {
  expect(parseSize(text)).toBeUndefined();
});

test.each([
  ["500ms", 500],
  ["60s", 60_000],
  ["1.5h", 5_400_000],
  ["30 m", 1_800_000],
  ["7d", 604_800_000],
])("%s is %i ms", (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});

test.each(["60", "", "s", "1 year", "-5s"])("%j is no duration", (text) => {
  expect(parseDuration(text)).toBeUndefined();
});

test("sizes and durations read well", () => {
  expect([0, 1023, 1536, 50 * 1024 ** 3].map(formatSize)).toEqual(["0 B", "1023 B", "1.5 KiB", "50.0 GiB"]);
  expect([0, 999, 1500, 180_000, 7_200_000].map(formatDuration)).toEqual(["0 ms", "999 ms", "1.5 s", "3 min", "2 h"]);
});
