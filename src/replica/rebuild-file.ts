import fs from "node:fs";
import path from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";

import { lockBytePage } from "../format/database-header.ts";
import { pageList } from "../sqlite/page-comparison.ts";
import { pageHash } from "../sqlite/page-index.ts";
import { readUpTo } from "../sqlite/write-fully.ts";
import { findPages } from "./find-pages.ts";
import type { KnownDatabase, ProvedIndex, RepairContext } from "./repair-standby.ts";
import type { PageSource } from "./sqlite/frame-writer.ts";
import { buildDatabase } from "./sqlite/new-database.ts";
import { PageSpool } from "./sqlite/page-spool.ts";
import { diverged } from "./standby-errors.ts";

const PAGES_PER_TURN = 256;

/**
 * Builds a file that SQLite refuses, or that is gone, anew as the index says: what is still right in it is taken over,
 * the rest comes from the log and the repositories. Nothing of the database may be open in this process: the file is read around SQLite.
 *
 * @throws STANDBY_DIVERGED naming the pages that are nowhere
 */
export async function rebuildFile(context: RepairContext, database: KnownDatabase, known: ProvedIndex): Promise<void> {
  const { paths, signal } = context;
  const { index, offset } = known;
  const { pageSize, sizePages } = index;
  const spool = new PageSpool(pageSize, paths.spool);
  const fd = fs.existsSync(database.path) ? fs.openSync(database.path, "r") : undefined;
  try {
    const read = (pageNumber: number, target: Uint8Array): Uint8Array => {
      if (fd !== undefined) target.fill(0, readUpTo(fd, target, (pageNumber - 1) * pageSize));
      return target;
    };
    const wrong = new Set<number>();
    const image = new Uint8Array(pageSize);
    for (const pageNumber of pageNumbersOf(sizePages, pageSize)) {
      if (pageHash(index.seed, pageNumber, read(pageNumber, image)) !== index.hashOf(pageNumber)) wrong.add(pageNumber);
      if (pageNumber % PAGES_PER_TURN === 0) await nextTurn();
    }
    const wanted = { database: database.name, pageNumbers: wrong, index, through: offset, signal };
    const missing = await findPages(context, wanted, spool);
    if (missing.length > 0) {
      throw diverged(
        database.path,
        `SQLite refuses it, and neither the log nor a repository holds an image of ${pageList(missing)}`,
      );
    }
    const pages: PageSource = {
      pageNumbers: () => pageNumbersOf(sizePages, pageSize),
      get: (pageNumber) => (wrong.has(pageNumber) ? spool.get(pageNumber) : read(pageNumber, new Uint8Array(pageSize))),
    };
    await buildDatabase(database.path, { pages, pageSize, sizePages, aside: path.join(paths.aside, database.name) });
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
    spool.close();
  }
}

function pageNumbersOf(sizePages: number, pageSize: number): Uint32Array {
  const all = Uint32Array.from({ length: sizePages }, (_, i) => i + 1);
  return all.filter((pageNumber) => pageNumber !== lockBytePage(pageSize));
}
