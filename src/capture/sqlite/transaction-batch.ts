import type { PageImage, SqliteCommit, SqlitePart } from "../../event/kinds.ts";

/** Where a batch sends what is ready. */
export type SendBody = (body: SqlitePart | SqliteCommit) => void;

export interface BatchOptions {
  readonly database: string;
  readonly transaction: number;
  readonly pageSize: number;
  readonly pagesPerRecord: number;
  readonly send: SendBody;
}

/** Cuts the pages of one transaction into parts and one closing commit, in the order in which they are added. */
export class TransactionBatch {
  readonly #options: BatchOptions;
  #pages: PageImage[] = [];
  #parts = 0;
  #pagesInAll = 0;

  constructor(options: BatchOptions) {
    this.#options = options;
  }

  get isEmpty(): boolean {
    return this.#pagesInAll === 0;
  }

  /** The image must stay as it is until the batch sends it: until it is full, or closed. */
  add(pageNumber: number, data: Uint8Array): void {
    if (this.#pages.length === this.#options.pagesPerRecord) this.#sendPart();
    this.#pages.push({ pageNumber, data });
    this.#pagesInAll += 1;
  }

  close(rest: Pick<SqliteCommit, "cause" | "commits" | "sizePages" | "before" | "after" | "wal" | "gapSinceMs">): void {
    const { send, pagesPerRecord: _, ...identity } = this.#options;
    send({ kind: "sqlite.commit", ...identity, ...rest, parts: this.#parts, pages: this.#pages });
    this.#pages = [];
  }

  #sendPart(): void {
    const { send, pagesPerRecord: _, ...identity } = this.#options;
    send({ kind: "sqlite.part", ...identity, sequence: this.#parts, pages: this.#pages });
    this.#parts += 1;
    this.#pages = [];
  }
}
