import fs from "node:fs";

import { readFilePages } from "../../sqlite/committed-pages.ts";
import type { LiveFiles, WalIndexState } from "../../sqlite/live-files.ts";
import { DATABASE_HEADER_BYTES, decodeDatabaseHeader } from "../../format/database-header.ts";
import { TidemarkError } from "../../runtime/errors.ts";
import { findLastImage } from "./wal-scan.ts";

/** Page size and size of the database as committed; the wal-index knows neither before the first commit in it. */
export function committedSize(files: LiveFiles, state: WalIndexState): { pageSize: number; sizePages: number } {
  const { header } = state;
  if (header.sizePages > 0 && header.pageSize > 0) return { pageSize: header.pageSize, sizePages: header.sizePages };
  const bytes = new Uint8Array(DATABASE_HEADER_BYTES);
  fs.readSync(files.databaseFd, bytes, 0, bytes.length, 0);
  const decoded = decodeDatabaseHeader(bytes);
  if (!decoded) {
    throw new TidemarkError("DATABASE_NOT_SQLITE", `${files.path} no longer starts with an SQLite header`, {
      hint: "Run `PRAGMA integrity_check`; restore it from the standby or an earlier offset with `tidemark restore`.",
    });
  }
  const fileBytes = fs.fstatSync(files.databaseFd).size;
  return { pageSize: decoded.pageSize, sizePages: Math.ceil(fileBytes / decoded.pageSize) };
}

/**
 * A page that grew and is in no frame of its commit, as a reader sees it: an older frame that is not in the database
 * file yet, else the file. SQLite leaves its content undefined (it is on the free list), but not ours to choose.
 */
export function readUnwrittenPage(
  files: LiveFiles,
  pageNumber: number,
  range: { pageSize: number; afterFrame: number; throughFrame: number },
): Uint8Array {
  const image = findLastImage(files.walFd, pageNumber, range);
  return image ?? readFilePages(files, { firstPage: pageNumber, count: 1, pageSize: range.pageSize });
}
