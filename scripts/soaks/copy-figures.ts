/** What a first copy cost, and whether it was right. */
import fs from "node:fs";

import Database from "better-sqlite3";

import { openLog } from "../../src/compose.ts";
import { configOf } from "../../test/support/config-of.ts";
import { BEFORE_FIRST } from "../../src/event/positions.ts";
import { readEvents } from "../../src/log/log-reader.ts";
import type { Sampler } from "./sampler.ts";
import { gibibytes, mebibytes, seconds, type Outcome } from "./scenario.ts";

const MIB = 2 ** 20;
const MOST_SHIPPED_TWICE = 0.2;
/** Four times what a WAL is sealed at. */
const MOST_WAL_BYTES = 64 * MIB;

/** What the application says each second. */
export interface AppSecond {
  readonly atMs: number;
  readonly commits: number;
  readonly worstMs: number;
  readonly busy: number;
}

export interface CopyRun {
  /** tidemark.yml */
  readonly config: string;
  readonly database: string;
  readonly standbyDatabase: string;
  /** At the start. */
  readonly databaseBytes: number;
  readonly kills: number;
  /** ms since 1970: capture started, the copy was in the log, the standby had it. */
  readonly times: { readonly startedMs: number; readonly readyMs: number; readonly appliedMs: number };
  readonly app: readonly AppSecond[];
  readonly sampler: Sampler;
}

/** Compares every page and adds everything up. Nobody has the databases open any more. */
export async function judge(run: CopyRun): Promise<Outcome> {
  const { databaseBytes, times, app } = run;
  const shipped = await shippedInto(run.config);
  const differing = comparePages(run.database, run.standbyDatabase);
  const before = app.filter(({ atMs }) => atMs <= times.startedMs);
  const during = app.filter(({ atMs }) => atMs > times.startedMs && atMs <= times.readyMs);
  const written = sum(during.map(({ commits }) => commits)) * shipped.bytesACommit;
  const allowed = (1 + MOST_SHIPPED_TWICE) * databaseBytes + written;
  const { walBytes, diskBytes } = run.sampler.peaks;
  const busy = sum(app.map((second) => second.busy));
  const problems = [
    ...(differing > 0 ? [`${differing} pages differ`] : []),
    ...(shipped.copyBytes > allowed
      ? [`the copy shipped ${mebibytes(shipped.copyBytes)}, allowed ${mebibytes(allowed)}`]
      : []),
    ...(shipped.copies === 1 ? [] : [`the log holds ${shipped.copies} copies`]),
    ...(walBytes > MOST_WAL_BYTES ? [`the WAL grew to ${mebibytes(walBytes)}`] : []),
    ...(busy > 0 ? [`the application met SQLITE_BUSY ${busy} times`] : []),
  ];
  const figures = {
    databaseBytes,
    kills: run.kills,
    copyMs: times.readyMs - times.startedMs,
    appliedMs: times.appliedMs - times.startedMs,
    shippedBytes: shipped.copyBytes,
    writtenBytes: written,
    commits: sum(app.map(({ commits }) => commits)),
    busy,
    worstAloneMs: worst(before),
    worstStallMs: worst(during),
    walPeakBytes: walBytes,
    diskPeakBytes: diskBytes,
    rssPeakBytes: run.sampler.rssBytes,
  };
  return { ok: problems.length === 0, problems, figures, rows: rowsOf(figures) };
}

/** Page images in the log: of the copy, and of a commit on the average. */
async function shippedInto(config: string): Promise<{ copyBytes: number; copies: number; bytesACommit: number }> {
  const { log, set } = configOf(config, "run");
  if (!log) throw new Error("the configuration names a log");
  await using source = await openLog({
    log,
    set,
    mode: "read",
    encryption: { recipients: [], identity: undefined, asked: false },
  });
  const total = { copyBytes: 0, copies: 0, bytes: 0, commits: 0 };
  const { signal } = new AbortController();
  for await (const events of readEvents(source, { after: BEFORE_FIRST, follow: false, signal })) {
    for (const { body } of events) {
      if (body.kind !== "sqlite.part" && body.kind !== "sqlite.commit") continue;
      const bytes = body.pages.length * body.pageSize;
      if (total.copies === 0 || (body.kind === "sqlite.commit" && body.cause === "copy")) total.copyBytes += bytes;
      else total.bytes += bytes;
      if (body.kind !== "sqlite.commit") continue;
      total.commits += body.commits;
      if (body.cause === "copy") total.copies += 1;
    }
  }
  return { ...total, bytesACommit: total.bytes / Math.max(1, total.commits) };
}

function rowsOf(figures: {
  readonly databaseBytes: number;
  readonly kills: number;
  readonly copyMs: number;
  readonly appliedMs: number;
  readonly shippedBytes: number;
  readonly writtenBytes: number;
  readonly commits: number;
  readonly worstAloneMs: number;
  readonly worstStallMs: number;
  readonly walPeakBytes: number;
  readonly diskPeakBytes: number;
  readonly rssPeakBytes: Readonly<Record<string, number>>;
}): (readonly [string, string])[] {
  const { databaseBytes, shippedBytes, rssPeakBytes } = figures;
  return [
    ["database", gibibytes(databaseBytes)],
    ["kills", String(figures.kills)],
    ["from the first start to the log, to the standby", `${seconds(figures.copyMs)}, ${seconds(figures.appliedMs)}`],
    ["shipped by the copy", `${gibibytes(shippedBytes)}, ${(shippedBytes / databaseBytes).toFixed(3)} x the database`],
    ["written by the application meanwhile", mebibytes(figures.writtenBytes)],
    ["commits of the application", String(figures.commits)],
    [
      "its worst stall alone, during the copy",
      `${figures.worstAloneMs.toFixed(0)} ms, ${figures.worstStallMs.toFixed(0)} ms`,
    ],
    ["largest WAL", mebibytes(figures.walPeakBytes)],
    [
      "most memory",
      Object.entries(rssPeakBytes)
        .map(([name, bytes]) => `${name} ${mebibytes(bytes)}`)
        .join(", "),
    ],
    ["most disk, the database included", gibibytes(figures.diskPeakBytes)],
  ];
}

function worst(app: readonly AppSecond[]): number {
  return Math.max(0, ...app.map(({ worstMs }) => worstMs));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** How many pages differ between two databases that nobody has open any more. */
function comparePages(...files: readonly [string, string]): number {
  for (const file of files) {
    const db = new Database(file);
    db.pragma("wal_checkpoint(TRUNCATE)");
    db.close();
  }
  const [a, b] = files.map((file) => fs.openSync(file, "r")) as [number, number];
  const [first, second] = [Buffer.alloc(MIB), Buffer.alloc(MIB)];
  let differing = 0;
  try {
    for (let at = 0; ; at += MIB) {
      const length = fs.readSync(a, first, 0, MIB, at);
      const other = fs.readSync(b, second, 0, MIB, at);
      if (length === 0 && other === 0) return differing;
      for (let page = 0; page < Math.max(length, other); page += 4096) {
        const end = page + 4096;
        if (end > length || end > other || first.compare(second, page, end, page, end) !== 0) differing += 1;
      }
    }
  } finally {
    fs.closeSync(a);
    fs.closeSync(b);
  }
}
