import { TidemarkError } from "../runtime/errors.ts";

/** The errors both logs share, so that the same trouble reads the same and names the same next step. */

const RESEED = "Run `tidemark replica --reseed` on each standby.";

export function gapError(location: string, expected: number, found: number): TidemarkError {
  return new TidemarkError(
    "LOG_GAP",
    `${location}: expected offset ${expected}, got ${found}; the records between were removed`,
    {
      hint: `What was removed cannot be read any more. ${RESEED}`,
    },
  );
}

export function purgedError(location: string, wanted: number, last: number): TidemarkError {
  return new TidemarkError(
    "LOG_GAP",
    `${location}: offset ${wanted} was removed, the log holds nothing up to its head ${last}`,
    {
      hint: `What was removed cannot be read any more. ${RESEED}`,
    },
  );
}

export function lostError(location: string, expected: number, head: number): TidemarkError {
  return new TidemarkError(
    "LOG_GAP",
    `${location}: expected offset ${expected}, got ${head} as its head and no such record; its server lost it`,
    {
      hint: `Check the disk of the log's server: what is damaged there cannot be read any more. ${RESEED}`,
    },
  );
}

export function regressedError(location: string, known: number, head: number): TidemarkError {
  return new TidemarkError(
    "LOG_REGRESSED",
    `${location}: its head is ${head}, but offset ${known} was seen there before; it went backwards`,
    {
      hint:
        "If an older copy of the log was put in place, bring the newer one back. If the newer one is lost, stop the agents, " +
        `move the log aside, remove the capture agent's state directory and start capture again for a new log. ${RESEED}`,
    },
  );
}

export function recreatedError(location: string, evidence: string): TidemarkError {
  return new TidemarkError("LOG_RECREATED", `${location}: ${evidence}; this is not the log that was used before`, {
    hint:
      "If the log was replaced by mistake, bring the former one back. If it was meant, remove the capture agent's state " +
      `directory and start capture again. ${RESEED}`,
  });
}

/** For whoever wants to make a log that goes on with a lost one. */
export function existsError(location: string): TidemarkError {
  return new TidemarkError("LOG_EXISTS", `${location}: there is a log, which this host did not begin`, {
    hint: "Promote without --new-log or --from-repository if it is the right one (`tidemark history` tells). If it is damaged or of no use, remove it first: the stream, or the directory of an embedded log.",
  });
}

export function foreignError(location: string, evidence: string): TidemarkError {
  return new TidemarkError("LOG_FOREIGN", `${location}: ${evidence}`, {
    hint: "Nothing there was touched. Choose another place with `--log`, or another set name with `set:` in tidemark.yml.",
  });
}

export function unreachableError(location: string, evidence: string, cause?: unknown): TidemarkError {
  return new TidemarkError("LOG_UNREACHABLE", `${location}: ${evidence}`, {
    hint: "Check that the log's server or disk is there and that `log:` in tidemark.yml (or `--log`) names it.",
    cause,
  });
}

/** The caller's signal aborted while records waited. They may or may not be in the log; the next start finds out. */
export function abandonedError(location: string): TidemarkError {
  return new TidemarkError("LOG_UNREACHABLE", `${location}: stopped before the log acknowledged everything`, {
    hint: "Nothing is lost: the next start continues from what the log holds.",
  });
}

export function fencedError(location: string, at: { offset: number; epoch: number; ours: number }): TidemarkError {
  return new TidemarkError(
    "FENCED",
    `${location}: offset ${at.offset} belongs to epoch ${at.epoch}, this writer's epoch is ${at.ours}; another writer took over`,
    {
      hint: "Another host writes this set now. Stop the application here, and follow the new primary with `tidemark replica`.",
    },
  );
}

/** `wasOurs`: this writer has written to the log before. */
export function promotedError(
  location: string,
  { epoch, host, reason, wasOurs }: { epoch: number; host: string; reason: string; wasOurs: boolean },
): TidemarkError {
  return new TidemarkError(
    wasOurs ? "FENCED" : "LOG_FOREIGN_WRITER",
    `${location}: host ${host} was promoted (${reason}), epoch ${epoch} is its own; another writer took over`,
    {
      hint:
        "Another host writes this set now. Stop the application here, and follow the new primary with `tidemark replica`. " +
        "If that host is gone for good, promote a standby, or start again with --takeover.",
    },
  );
}

export function promotedElsewhere(location: string, epoch: number): TidemarkError {
  return new TidemarkError(
    "PROMOTED_ELSEWHERE",
    `${location}: another host began epoch ${epoch} in this moment; this one stays a standby`,
    { hint: "Follow the other one, which is the primary now; `tidemark history` names it." },
  );
}

export function primaryFaster(location: string): TidemarkError {
  return new TidemarkError(
    "TIMEOUT",
    `${location}: the primary is alive, and was faster each time; this host stays a standby`,
    {
      hint: "Stop the application or its agent there, or use `tidemark switchover` on that host; or give it longer with --timeout.",
    },
  );
}

/** Of an offer to take over. */
export function takenBack(location: string, offeredAt: number): TidemarkError {
  return new TidemarkError(
    "PROMOTED_ELSEWHERE",
    `${location}: the primary offered at offset ${offeredAt} to hand over, and took it back; this one stays a standby`,
    { hint: "Nothing was changed. Give `tidemark switchover` on the primary again, perhaps with a longer --timeout." },
  );
}

export function foreignWriterError(location: string, evidence: string): TidemarkError {
  return new TidemarkError("LOG_FOREIGN_WRITER", `${location}: ${evidence}`, {
    hint: "Only one capture agent may write a set. Find the other one (`tidemark status`), stop it, and start this one again.",
  });
}

export function tooLargeError(location: string, record: { bytes: number; evidence: string }): TidemarkError {
  return new TidemarkError(
    "RECORD_TOO_LARGE",
    `${location}: a record of ${record.bytes} bytes is refused: ${record.evidence}`,
    {
      hint: "Set `max_payload` of the NATS server to 1 MiB (its default) or more, and no `max_msg_size` on the stream.",
    },
  );
}

export function readOnlyError(location: string): TidemarkError {
  return new TidemarkError("LOG_DENIED", `${location}: opened for reading only`, {
    hint: "Only `tidemark capture` and `tidemark run` write a log.",
  });
}
