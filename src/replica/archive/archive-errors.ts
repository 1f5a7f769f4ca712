import type { Offset } from "../../event/positions.ts";
import { TidemarkError } from "../../runtime/errors.ts";

export function interrupted(location: string, offset: Offset): TidemarkError {
  return new TidemarkError("INTERRUPTED", `${location}: offset ${offset} was not archived when the wait was ended`, {
    hint: "Start the agent again; the archive goes on from where it is.",
  });
}

export function wrongContent(location: string, at: Offset): TidemarkError {
  return new TidemarkError("LOG_CORRUPT", `${location}: offset ${at}: its content is not what its name says`, {
    hint: "Check the disk of the log. Start a new log (move this one aside, remove the capture agent's state) and reseed the standbys.",
  });
}

export function otherLog(location: string, archived: string, log: string): TidemarkError {
  return new TidemarkError(
    "REPOSITORY_FOREIGN",
    `${location} archives log ${archived}, which is not the one at ${log}`,
    {
      hint: "Give each log a repository of its own; the old one can still be restored from.",
    },
  );
}

export function ahead(location: string, archived: Offset, head: Offset): TidemarkError {
  return new TidemarkError(
    "REPOSITORY_FOREIGN",
    `${location} holds events up to offset ${archived}, the log ends at ${head}`,
    {
      hint: "The log was restored from an older state, or is another one: give this log a repository of its own.",
    },
  );
}

export function wouldBePlain(location: string): TidemarkError {
  return new TidemarkError(
    "NOT_ENCRYPTED",
    `the log is encrypted, and ${location} is not: it would hold in the clear what the log hides`,
    {
      hint: "Give the log a new repository, with encryption: configured here as on the primary.",
    },
  );
}
