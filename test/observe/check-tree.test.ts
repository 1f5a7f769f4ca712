import { expect, test } from "vitest";

import { checkWatches } from "../../src/observe/check-tree.ts";

test("more directories than may be watched are warned of, with the sysctl that helps", () => {
  expect(checkWatches(0, 10)).toEqual([]);
  expect(checkWatches(11, undefined)).toEqual([]);
  expect(checkWatches(10, 10)).toMatchObject([{ severity: "ok", code: "TREE_WATCHES" }]);
  expect(checkWatches(11, 10)).toMatchObject([
    {
      severity: "warn",
      code: "TREE_WATCHES",
      hint: expect.stringContaining("fs.inotify.max_user_watches=22") as unknown,
    },
  ]);
});
