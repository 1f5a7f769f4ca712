/** The quickstart with a database, and files, of the user's own: followed, restored and compared, never written to. */
import { statSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { setTimeout as wait } from "node:timers/promises";
import { type Digest, digestFiles, digestOf, filesBelow } from "./quickstart-compare.ts";
import { follow } from "./quickstart-follow.ts";
import {
  count,
  QuickstartFailure,
  restoreTo,
  type Session,
  startAgent,
  startReader,
  stopAgent,
  syncStandby,
  untilVerified,
} from "./quickstart-session.ts";

const FOLLOW_SECONDS = 22;
const BACK_MS = 10_000;
/** Log, standby, restore, and room to breathe. */
const COPIES = 4;
/** Reading larger ones row by row takes longer than a quickstart should. */
const COMPARE_BYTES = 256 * 1024 * 1024;

export async function showOwn(session: Session): Promise<void> {
  const { view, database } = session;
  await requireRoom(session);
  const followed = session.files === undefined ? database : `${database} and ${session.files}`;
  view.say(`Following ${followed}. Nothing is written to it; use your application as always.`);
  await using agent = startAgent(session);
  await untilVerified(session, agent);
  view.say(
    "The hot standby is up: the first copy is there and its checksum is equal. A reader is checking it from now on.",
  );
  await using reader = startReader(session, "any");
  const source = (): string => `${database}, ${count(walBytes(database), "byte")} in its WAL`;
  await follow(session, { source, reader: reader.latest }, FOLLOW_SECONDS);
  await proveRestore(session);
  await compareAll(session);
  await reader.stop();
  const report = reader.latest();
  if (!report || report.broken > 0)
    throw new QuickstartFailure(`the reader of the standby: ${report?.problem ?? "never read"}`);
  view.say(`ok  ${count(report.reads, "quick_check")} of the standby by another process while it changed, each ok.`);
  await stopAgent(agent);
}

async function compareAll(session: Session): Promise<void> {
  const { view, database } = session;
  if (sizeOf(database) <= COMPARE_BYTES) await proveStandby(session);
  else view.say("--  larger than 256 MiB, so not compared row by row; the checksum over all pages is the proof.");
  if (session.files === undefined) return;
  if (bytesBelow(session.files) <= COMPARE_BYTES) await proveFiles(session, session.files);
  else
    view.say("--  more than 256 MiB of files, so not compared one by one; each was verified by its hash when it came.");
}

const sizeOf = (file: string): number => statSync(file, { throwIfNoEntry: false })?.size ?? 0;
const walBytes = (database: string): number => sizeOf(`${database}-wal`);

async function requireRoom({ database, files, directory }: Session): Promise<void> {
  const size = sizeOf(database) + walBytes(database) + (files === undefined ? 0 : bytesBelow(files));
  const { bavail, bsize } = await statfs(directory);
  if (size * COPIES > bavail * bsize) {
    throw new QuickstartFailure(
      `your data has ${size} bytes; this needs ${COPIES} times that under ${directory}, where ${bavail * bsize} are free. Set TMPDIR to a directory with room.`,
    );
  }
}

function bytesBelow(directory: string): number {
  return filesBelow(directory).reduce((sum, file) => sum + sizeOf(file), 0);
}

async function proveRestore(session: Session): Promise<void> {
  const moment = new Date(Date.now() - BACK_MS);
  session.view.say(`\nRestoring to ten seconds ago, ${moment.toISOString()}:`);
  const { report, database } = await restoreTo(session, moment);
  const content = sizeOf(database) <= COMPARE_BYTES ? contentOf(digestOf(database)) : count(sizeOf(database), "byte");
  const { count: files, bytes } = report.files;
  const restoredFiles = session.files === undefined ? "" : `, ${count(files, "file")} of ${count(bytes, "byte")}`;
  const checks = report.databases
    .map((each) => `integrity ${each.integrity}, foreign keys ${each.foreignKeys}`)
    .join("; ");
  session.view.say(
    `ok  restored offset ${report.offset} in ${(report.durationMs / 1_000).toFixed(1)} s: ${content}${restoredFiles}, checksum equal, ${checks}.`,
  );
}

function contentOf({ rows, tables }: Digest): string {
  return `${count(rows, "row")} in ${count(tables, "table")}`;
}

/**
 * The standby must show a state that your database was in. While the application writes, both are read in turns until they
 * meet at the same commit; a standby that differs although nothing was committed around a sync is wrong.
 */
async function proveStandby(session: Session): Promise<void> {
  session.view.say("\nComparing the standby with your database, row by row:");
  await syncStandby(session);
  const seen = new Set<string>();
  for (let attempt = 1; attempt <= 100; attempt += 1) {
    const before = digestOf(session.database);
    if (attempt % 20 === 0) await syncStandby(session);
    const standby = digestOf(session.standbyDatabase);
    const after = digestOf(session.database);
    seen.add(before.sha256).add(after.sha256);
    if (seen.has(standby.sha256)) {
      session.view.say(`ok  ${contentOf(standby)} on the standby, every one equal to your database.`);
      return;
    }
    if (attempt % 20 === 0 && before.sha256 === after.sha256)
      throw new QuickstartFailure("the standby differs from your database");
    await wait(20, undefined, { signal: session.signal });
  }
  session.view.say(
    "--  your application commits too often for two reads to meet the same commit; the checksum after every event is the proof then.",
  );
}

/** Files that stand still must be equal after a sync; while the application goes on writing, the two are looked at again. */
async function proveFiles(session: Session, directory: string): Promise<void> {
  session.view.say("\nComparing the standby with your directory, file by file:");
  for (let attempt = 1; attempt <= 10; attempt += 1) {
    const before = digestFiles(directory);
    await syncStandby(session);
    const standby = digestFiles(session.standbyFiles ?? "");
    const after = digestFiles(directory);
    const still = [...after].filter(([file, sha256]) => before.get(file) === sha256);
    const different = still.filter(([file, sha256]) => standby.get(file) !== sha256);
    if (different.length === 0) {
      const moving = after.size - still.length;
      const rest = moving === 0 ? "" : `; ${count(moving, "other")} changed meanwhile`;
      session.view.say(`ok  ${count(still.length, "file")} on the standby, every one equal to yours${rest}.`);
      return;
    }
    if (attempt === 10) throw new QuickstartFailure(`the standby differs: ${different[0]?.[0] ?? ""}`);
  }
}
