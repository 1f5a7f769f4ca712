import { setImmediate as nextTurn } from "node:timers/promises";

import { lockBytePage } from "../format/database-header.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { invariant } from "../runtime/invariant.ts";
import { pageHash, type PageIndex } from "../sqlite/page-index.ts";
import { PageReader } from "./sqlite/page-reader.ts";
import { openStandby, type WalWriter } from "./sqlite/wal-writer.ts";

/** Bytes hashed before the event loop turns. */
const SLICE_BYTES = 1024 * 1024;

/**
 * Reads every page of a standby database as SQLite's readers see it (file and WAL) and compares it with the index.
 * Call it when the index says exactly what was appended last; apply may go on while it runs, because it looks at one
 * snapshot of both. Afterwards the file on disk is proved, not only what went into it.
 *
 * @throws STANDBY_DIVERGED naming the first page that differs
 */
export async function checkPages(writer: WalWriter, index: PageIndex, signal: AbortSignal): Promise<void> {
  const expected = new BigUint64Array(index.sizePages);
  for (let page = 1; page <= expected.length; page += 1) expected[page - 1] = index.hashOf(page);
  const pin = openStandby(writer.path);
  try {
    pin.exec("BEGIN");
    pin.pragma("schema_version");
    const header = writer.files.readWalIndex()?.header;
    invariant(header, "no valid wal-index header while a read transaction is open");
    // What is compared now is what later appends build on: from here on a stranger's commit is noticed at the next one.
    writer.buildOn(header);
    const reader = new PageReader(writer.files, header, writer.pageSize);
    if (reader.sizePages !== expected.length) {
      throw diverged(writer.path, `it has ${reader.sizePages} pages, the log says ${expected.length}`);
    }
    await compare(reader, expected, { writer, seed: index.seed, signal });
  } finally {
    pin.close();
  }
}

async function compare(
  reader: PageReader,
  expected: BigUint64Array,
  context: { writer: WalWriter; seed: bigint; signal: AbortSignal },
): Promise<void> {
  const { pageSize, path } = context.writer;
  const page = new Uint8Array(pageSize);
  const perSlice = Math.ceil(SLICE_BYTES / pageSize);
  for (let pageNumber = 1; pageNumber <= expected.length; pageNumber += 1) {
    if (pageNumber % perSlice === 0) {
      await nextTurn();
      if (context.signal.aborted) return;
    }
    if (pageNumber === lockBytePage(pageSize)) continue;
    if (pageHash(context.seed, pageNumber, reader.read(pageNumber, page)) === expected[pageNumber - 1]) continue;
    throw diverged(path, `page ${pageNumber} is not what the log says`);
  }
}

export function diverged(path: string, evidence: string): TidemarkError {
  return new TidemarkError("STANDBY_DIVERGED", `the standby database ${path} was altered or damaged: ${evidence}`, {
    hint: "Check the disk and who may write there, then build it anew with `tidemark replica --reseed`.",
  });
}
