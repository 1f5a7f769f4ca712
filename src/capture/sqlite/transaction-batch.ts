import type { PageImage, SqliteCommit, SqlitePart } from "../../event/kinds.ts";
import { crashPoint } from "../../runtime/crash-point.ts";

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
  #parts: number;

  /** `parts`: so many are in the log already, from the writer before us. */
  constructor(options: BatchOptions, parts = 0) {
    this.#options = options;
    this.#parts = parts;
  }

  /** At most so many images wait here to be sent. */
  get pagesPerRecord(): number {
    return this.#options.pagesPerRecord;
  }

  get transaction(): number {
    return this.#options.transaction;
  }

  /** Parts sent. */
  get parts(): number {
    return this.#parts;
  }

  get isEmpty(): boolean {
    return this.#parts === 0 && this.#pages.length === 0;
  }

  /** The image must stay as it is until the batch sends it: until it is full, flushed or closed. */
  add(pageNumber: number, data: Uint8Array): void {
    if (this.#pages.length === this.#options.pagesPerRecord) this.flush();
    this.#pages.push({ pageNumber, data });
  }

  /** Sends what was added so far as a part. */
  flush(): void {
    if (this.#pages.length === 0) return;
    const { send, pagesPerRecord: _, ...identity } = this.#options;
    send({ kind: "sqlite.part", ...identity, sequence: this.#parts, pages: this.#pages });
    this.#parts += 1;
    crashPoint("ship: part sent");
    this.#pages = [];
  }

  close(rest: Pick<SqliteCommit, "cause" | "commits" | "sizePages" | "before" | "after" | "wal" | "gapSinceMs">): void {
    const { send, pagesPerRecord: _, ...identity } = this.#options;
    send({ kind: "sqlite.commit", ...identity, ...rest, parts: this.#parts, pages: this.#pages });
    this.#pages = [];
  }
}
