import { randomBytes } from "node:crypto";
import { encodeRecord, NO_PREVIOUS_HASH, recordHash } from "../../src/event/codec.ts";
import type { EventBody } from "../../src/event/kinds.ts";
import { epoch, offset, type Offset } from "../../src/event/positions.ts";
import type { ChangeLog, StoredRecord } from "../../src/log/change-log.ts";

export interface ChainOptions {
  readonly from?: number;
  readonly epoch?: number;
  readonly previousHash?: Uint8Array;
  /** ms of the first record; each next one is 10 ms later. */
  readonly startMs?: number;
  /** Bytes of incompressible page data in each record. */
  readonly payload?: number;
  /** Makes records differ that are otherwise the same. */
  readonly name?: string;
  readonly set?: string;
}

/** `count` valid records, one after the other; the first of a new log is a genesis. */
export function chain(count: number, options: ChainOptions = {}): Uint8Array[] {
  const { from = 1, epoch: number = 1, startMs = 1_000 } = options;
  let previousHash = options.previousHash ?? NO_PREVIOUS_HASH;
  return Array.from({ length: count }, (_, index) => {
    const at = offset(from + index);
    const timeMs = startMs + index * 10;
    const data = encodeRecord({
      offset: at,
      epoch: epoch(number),
      timeMs,
      previousHash,
      body: bodyAt(at, options),
    });
    previousHash = recordHash(data);
    return data;
  });
}

function bodyAt(at: Offset, options: ChainOptions): EventBody {
  const { set = "app", name = "mark", payload } = options;
  if (at === 1) return { kind: "genesis", set, logId: `log-${name}`, checksumSeed: 1n, createdBy: "test" };
  if (payload === undefined) return { kind: "mark", name: `${name}-${at}` };
  const pages = Array.from({ length: Math.ceil(payload / 4096) }, (_, index) => ({
    pageNumber: index + 1,
    data: randomBytes(4096),
  }));
  return {
    kind: "sqlite.part",
    database: "app.db",
    transaction: at,
    sequence: 0,
    pageSize: 4096,
    pages,
  };
}

export async function readAll(log: ChangeLog, after = 0): Promise<StoredRecord[]> {
  const found: StoredRecord[] = [];
  const { signal } = new AbortController();
  for await (const batch of log.read(offset(after), { signal, follow: false })) found.push(...batch);
  return found;
}

/** Waits until `condition` holds; fails after `ms`. */
export async function until(condition: () => boolean | Promise<boolean>, ms = 20_000): Promise<void> {
  const deadline = performance.now() + ms;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${ms} ms: ${condition.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** The code of the error that `promise` rejects with; "none" when it does not. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "none";
  } catch (error) {
    return error instanceof Error && "code" in error ? String(error.code) : String(error);
  }
}
