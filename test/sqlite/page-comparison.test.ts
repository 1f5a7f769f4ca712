import { expect, test } from "vitest";

import { lockBytePage } from "../../src/format/database-header.ts";
import { differingPages, pageList } from "../../src/sqlite/page-comparison.ts";
import { PageIndex } from "../../src/sqlite/page-index.ts";

for (const pageSize of [4096, 65_536]) {
  test(`the lock-byte page is passed over, its neighbours are not (page size ${pageSize})`, () => {
    const index = new PageIndex(pageSize, 7n);
    const lockPage = lockBytePage(pageSize);
    const range = { firstPage: lockPage - 1, count: 3, pageSize };
    const pages = Uint8Array.from({ length: 3 * pageSize }, (_, i) => (i * 31) >>> 3);
    for (let i = 0; i < 3; i += 1) index.set(lockPage - 1 + i, pages.subarray(i * pageSize, (i + 1) * pageSize));
    expect(differingPages(index, pages, range)).toEqual([]);
    for (let i = 0; i < 3; i += 1) pages[i * pageSize + 5] = (pages[i * pageSize + 5] ?? 0) ^ 1;
    expect(differingPages(index, pages, range)).toEqual([lockPage - 1, lockPage + 1]);
  });
}

test("pages by name, not too many of them", () => {
  expect(pageList([7])).toBe("page 7");
  expect(pageList([7, 9])).toBe("pages 7, 9");
  expect(pageList(Array.from({ length: 30 }, (_, i) => i + 1))).toMatch(/^pages 1, 2, .* 20 and 10 more$/);
});
