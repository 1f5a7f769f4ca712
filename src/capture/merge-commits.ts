import { pagesPerRecord } from "../event/codec.ts";
import type { EventBody, PageImage, SqliteCommit, SqlitePart } from "../event/kinds.ts";

/**
 * The commits of each database as one, so that no state between them is ever to be seen: a file that was there then
 * cannot be had any more. So a copy or a repair takes in the commits behind it, and commits take in a repair; a copy begins
 * anew, perhaps with pages of another size, and leaves alone what is before it. What is no commit keeps its place.
 */
export function mergeCommits(bodies: readonly EventBody[]): EventBody[] {
  const merged: EventBody[] = [];
  const open = new Map<string, MergedCommit>();
  for (const body of bodies) {
    if (body.kind !== "sqlite.part" && body.kind !== "sqlite.commit") {
      merged.push(...[...open.values()].flatMap((one) => one.close()), body);
      open.clear();
      continue;
    }
    const known = open.get(body.database) ?? new MergedCommit();
    const isCopy = body.kind === "sqlite.commit" && body.cause === "copy";
    const { before, one } = isCopy ? known.split() : { before: [], one: known };
    merged.push(...before);
    open.set(body.database, one);
    one.add(body);
  }
  return [...merged, ...[...open.values()].flatMap((one) => one.close())];
}

class MergedCommit {
  readonly #pages = new Map<number, PageImage>();
  #first: SqliteCommit | undefined;
  #last: SqliteCommit | undefined;
  #commits = 0;
  #cause: SqliteCommit["cause"] = "commit";
  #gapSinceMs: number | undefined;
  /** Parts of the first transaction that were sent before. */
  #sentParts = 0;
  /** Of the transaction that has no commit yet. */
  #parts: SqlitePart[] = [];

  add(body: SqlitePart | SqliteCommit): void {
    if (body.kind === "sqlite.part") {
      // Parts of a transaction that was never closed are void.
      this.#parts = this.#parts.filter(({ transaction }) => transaction === body.transaction);
      this.#parts.push(body);
      return;
    }
    const parts = this.#parts.filter(({ transaction }) => transaction === body.transaction);
    this.#parts = [];
    if (!this.#first) this.#sentParts = body.parts - parts.length;
    this.#first ??= body;
    this.#last = body;
    this.#commits += body.commits;
    if (this.#cause === "commit") this.#cause = body.cause;
    this.#gapSinceMs ??= body.gapSinceMs;
    for (const { pages } of [...parts, body]) for (const page of pages) this.#pages.set(page.pageNumber, page);
    for (const pageNumber of this.#pages.keys()) if (pageNumber > body.sizePages) this.#pages.delete(pageNumber);
  }

  /** What came before the parts of the transaction that is open, and what goes on with those. */
  split(): { readonly before: EventBody[]; readonly one: MergedCommit } {
    const one = new MergedCommit();
    one.#parts = this.#parts;
    this.#parts = [];
    return { before: this.close(), one };
  }

  close(): EventBody[] {
    const [first, last] = [this.#first, this.#last];
    if (!first || !last) return this.#parts;
    const { database, transaction, pageSize } = first;
    const pages = [...this.#pages.values()].toSorted((a, b) => a.pageNumber - b.pageNumber);
    const most = pagesPerRecord(pageSize);
    const parts: SqlitePart[] = [];
    for (let at = 0; pages.length - at > most; at += most) {
      const sequence = this.#sentParts + parts.length;
      parts.push({ kind: "sqlite.part", database, transaction, sequence, pageSize, pages: pages.slice(at, at + most) });
    }
    const closing: SqliteCommit = {
      ...last,
      ...(this.#gapSinceMs === undefined ? {} : { gapSinceMs: this.#gapSinceMs }),
      cause: this.#cause,
      transaction,
      parts: this.#sentParts + parts.length,
      commits: this.#commits,
      before: first.before,
      pages: pages.slice(parts.length * most),
    };
    return [...parts, closing, ...this.#parts];
  }
}
