import { expect, test } from "vitest";

import { reconnectPauses } from "../../src/log/reconnect-pause.ts";

test("a wall clock that is set back keeps nobody from trying again, and only once for each server", () => {
  let offMs = 1_000_000;
  let nowMs = 0;
  const pause = reconnectPauses(2, { now: () => nowMs + offMs, monotonic: () => nowMs });
  expect(pause()).toBeGreaterThanOrEqual(250);
  // In the middle of a pause: whatever is left of it must not be measured by the new clock.
  nowMs += 1;
  offMs -= 3_600_000;
  for (const _ of [1, 2]) {
    nowMs += 0.7;
    offMs -= 0.7;
    expect(pause()).toBeLessThanOrEqual(-3_600_000);
  }
  expect(pause()).toBeGreaterThanOrEqual(250);
  offMs += 3_600_000;
  expect(pause()).toBeGreaterThanOrEqual(250);
});
