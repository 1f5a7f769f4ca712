import type { LogEvent, SqliteCommit } from "../event/kinds.ts";
import { TidemarkError } from "../runtime/errors.ts";

export function mismatch(
  event: LogEvent,
  body: SqliteCommit,
  found: { when: "before" | "after"; found: bigint },
): TidemarkError {
  const expected = found.when === "before" ? body.before : body.after;
  return new TidemarkError(
    "CHECKSUM_MISMATCH",
    `${body.database} at offset ${event.offset}: the checksum ${found.when} the event is ${hex(found.found)}, the log says ${hex(expected)}`,
    {
      hint: "The standby keeps its last proved state. Build it anew with `tidemark replica --reseed`; report it if it comes back.",
    },
  );
}

export function diverged(path: string, evidence: string): TidemarkError {
  return new TidemarkError("STANDBY_DIVERGED", `the standby database ${path} was altered or damaged: ${evidence}`, {
    hint: "Check the disk and who may write there, then build it anew with `tidemark replica --reseed`.",
  });
}

export function hex(checksum: bigint): string {
  return checksum.toString(16).padStart(16, "0");
}

export function foreign(file: string): TidemarkError {
  return new TidemarkError("STANDBY_FOREIGN", `${file} exists and was not made by this standby`, {
    hint: "Give the standby an empty directory, or replace the file with `tidemark replica --reseed`.",
  });
}

export function locked(path: string, cause: unknown): TidemarkError {
  return new TidemarkError("DATABASE_BUSY", `another process holds the write lock of the standby database ${path}`, {
    hint: "Only read from a standby. Find the process with `fuser` and end its write transaction; apply goes on by itself.",
    cause,
  });
}

export function written(path: string, evidence: string): TidemarkError {
  return new TidemarkError("STANDBY_WRITTEN", `somebody else wrote to the standby database ${path}: ${evidence}`, {
    hint: "A standby is read only: find who writes, then start the replica again: it takes back what is not the log's, or builds all anew with --reseed.",
  });
}

/** @throws INTERRUPTED: what was not found was not looked for to the end */
export function requireGoingOn(signal: AbortSignal): void {
  if (!signal.aborted) return;
  throw new TidemarkError("INTERRUPTED", "the replica was stopped while it repaired the standby", {
    hint: "Start it again: it begins the repair again.",
  });
}
