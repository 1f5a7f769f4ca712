import { expect, test } from "vitest";

import { Pace } from "../../src/cli/progress-pace.ts";

const MIB = 1024 * 1024;

test("rate and time left, from the beginning of each phase", () => {
  const pace = new Pace();
  const fetched = (mebibytes: number, nowMs: number): string =>
    pace.of({ phase: "fetch", done: mebibytes * MIB, total: 1000 * MIB, unit: "bytes" }, nowMs);
  expect(fetched(100, 5000)).toBe("");
  expect(fetched(150, 5500)).toBe("");
  expect(fetched(300, 7000)).toBe("100 MiB/s, 7.0 s left");
  expect(fetched(1000, 9000)).toBe("225 MiB/s, 0 ms left");
  expect(pace.of({ phase: "write", done: 10, total: 100 }, 9000)).toBe("");
  expect(pace.of({ phase: "write", done: 20, total: 100 }, 39_000)).toBe("4 min left");
  expect(pace.of({ phase: "check", done: 0, total: 1 }, 60_000)).toBe("");
});
