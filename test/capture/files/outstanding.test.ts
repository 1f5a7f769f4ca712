import { expect, test } from "vitest";

import { Outstanding } from "../../../src/capture/files/outstanding.ts";
import type { TreePath } from "../../../src/event/tree-path.ts";
import { systemClock } from "../../../src/runtime/clock.ts";

test("a file that was given up before it was read is awaited while it is read", () => {
  const path = "large" as TreePath;
  let isRead = false;
  const outstanding = new Outstanding({ clock: systemClock, wake: () => undefined, reads: () => isRead });
  outstanding.left({ unsettled: [path], late: [] }, { givenUp: true });
  expect([...outstanding.awaited]).toEqual([]);
  isRead = true;
  expect([...outstanding.awaited]).toEqual([path]);
  isRead = false;
  expect([...outstanding.awaited]).toEqual([]);
});
