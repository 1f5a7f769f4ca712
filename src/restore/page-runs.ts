import type { PageImage } from "../event/kinds.ts";
import type { PageRun } from "./write-pages.ts";

/** Pages of a blob of `length` bytes, each where it belongs: the number of each, where 0 stands for one that does not count. */
export function singly(pages: readonly number[], pageSize: number, length: number): PageRun[] {
  return pages.flatMap((firstPage, slot) => {
    const at = slot * pageSize;
    return firstPage === 0 || at >= length ? [] : [{ firstPage, at, bytes: pageSize }];
  });
}

/** Most that one call writes from as many places. */
const MAX_VECTORS = 1024;

/** Pages that follow each other in the database, wherever they lie in memory. */
export function* runsOf(pages: readonly PageImage[]): Generator<readonly PageImage[]> {
  for (let at = 0; at < pages.length;) {
    let end = at + 1;
    while (
      end < pages.length &&
      end - at < MAX_VECTORS &&
      pages[end]?.pageNumber === (pages[end - 1]?.pageNumber ?? 0) + 1
    )
      end += 1;
    yield pages.slice(at, end);
    at = end;
  }
}

/** Pages that follow each other in the database and in memory, as those of a copy do, in one piece: fewer, larger writes. */
export function* runsInMemory(pages: readonly PageImage[]): Generator<{ firstPage: number; data: Uint8Array }> {
  for (let at = 0; at < pages.length;) {
    const first = pages[at] as PageImage;
    const { buffer, byteOffset } = first.data;
    let bytes = first.data.length;
    let count = 1;
    for (let next = pages[at + 1]; next; next = pages[at + count]) {
      if (next.pageNumber !== first.pageNumber + count) break;
      if (next.data.buffer !== buffer || next.data.byteOffset !== byteOffset + bytes) break;
      bytes += next.data.length;
      count += 1;
    }
    yield { firstPage: first.pageNumber, data: new Uint8Array(buffer, byteOffset, bytes) };
    at += count;
  }
}
