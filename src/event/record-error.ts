import { TidemarkError } from "../runtime/errors.ts";

/** What is wrong with a value, without where: whoever knows the record turns it into a TidemarkError. */
export class RecordProblem extends Error {
  override readonly name = "RecordProblem";
}

export function invalidRecord(where: string, problem: string, cause?: unknown): TidemarkError {
  return new TidemarkError("RECORD_INVALID", `${where}: ${problem}`, {
    hint: "The record is damaged or is not Tidemark's. Check the disk and the server of the log; restore or reseed from another copy.",
    cause,
  });
}

export function newerRecord(where: string, evidence: string): TidemarkError {
  return new TidemarkError("RECORD_VERSION", `${where}: ${evidence}`, {
    hint: "A newer Tidemark wrote it. Upgrade Tidemark on this host; it goes on where it stopped.",
  });
}

export function tooLargeRecord(where: string, size: string, limit: number): TidemarkError {
  return new TidemarkError("RECORD_TOO_LARGE", `${where}: ${size}, allowed are ${limit}`, {
    hint: "This is a fault in Tidemark: large transactions are to be split. Report it with this message.",
  });
}

/** Runs `work`; a RecordProblem becomes RECORD_INVALID that says where. */
export function locating<T>(where: () => string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof RecordProblem) throw invalidRecord(where(), error.message, error.cause);
    throw error;
  }
}
