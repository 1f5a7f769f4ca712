/** Exit codes of the command line, design.md section 10. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  unreachable: 3,
  verification: 4,
  fenced: 5,
  refused: 6,
  interrupted: 130,
} as const;

/**
 * Every code that a user can meet, with the exit code it leads to and whether trying the same again later can help.
 * Scripts match on the code: it is never renamed.
 */
const CODES = {
  USAGE: { exit: EXIT.usage, retryable: false },
  CONFIG: { exit: EXIT.usage, retryable: false },
  TIME_INVALID: { exit: EXIT.usage, retryable: false },
  // The user's database and its directory.
  DATABASE_MISSING: { exit: EXIT.usage, retryable: false },
  DATABASE_NOT_SQLITE: { exit: EXIT.usage, retryable: false },
  DATABASE_NOT_WAL: { exit: EXIT.usage, retryable: false },
  DATABASE_EXCLUSIVE: { exit: EXIT.failed, retryable: true },
  DATABASE_REPLACED: { exit: EXIT.failed, retryable: true },
  DATABASE_UNREADABLE: { exit: EXIT.usage, retryable: false },
  DATABASE_BUSY: { exit: EXIT.failed, retryable: true },
  DATABASE_CORRUPT: { exit: EXIT.verification, retryable: false },
  WAL_GAP: { exit: EXIT.failed, retryable: true },
  SQLITE_TOO_OLD: { exit: EXIT.usage, retryable: false },
  // Trees of files: what halts one.
  TREE_MISSING: { exit: EXIT.failed, retryable: true },
  TREE_EMPTIED: { exit: EXIT.refused, retryable: true },
  MASS_DELETION: { exit: EXIT.refused, retryable: true },
  // The log.
  LOG_UNREACHABLE: { exit: EXIT.unreachable, retryable: true },
  LOG_DENIED: { exit: EXIT.unreachable, retryable: false },
  LOG_FULL: { exit: EXIT.failed, retryable: true },
  LOG_EMPTY: { exit: EXIT.failed, retryable: false },
  LOG_GAP: { exit: EXIT.failed, retryable: false },
  LOG_RECREATED: { exit: EXIT.failed, retryable: false },
  LOG_REGRESSED: { exit: EXIT.failed, retryable: false },
  /** What this standby has applied is not in the log: the log was begun anew behind an earlier offset. */
  LOG_DIVERGED: { exit: EXIT.failed, retryable: false },
  LOG_EXISTS: { exit: EXIT.refused, retryable: false },
  LOG_FOREIGN: { exit: EXIT.failed, retryable: false },
  LOG_FOREIGN_WRITER: { exit: EXIT.failed, retryable: false },
  LOG_CORRUPT: { exit: EXIT.verification, retryable: false },
  /** A standby's position or a restore target lies outside what the log holds. */
  OFFSET_NOT_FOUND: { exit: EXIT.failed, retryable: false },
  TIME_OUT_OF_RANGE: { exit: EXIT.failed, retryable: false },
  BASE_NOT_FOUND: { exit: EXIT.failed, retryable: false },
  MARK_NOT_FOUND: { exit: EXIT.failed, retryable: false },
  MARK_EXISTS: { exit: EXIT.failed, retryable: false },
  /** Of a switchover: what was committed there would be nowhere else. */
  NOT_CAPTURED: { exit: EXIT.refused, retryable: true },
  FENCED: { exit: EXIT.fenced, retryable: false },
  // A promotion that is refused.
  PROMOTED_ELSEWHERE: { exit: EXIT.refused, retryable: false },
  /** No standby answers that could take over. */
  STANDBY_MISSING: { exit: EXIT.refused, retryable: true },
  STANDBY_BEHIND: { exit: EXIT.refused, retryable: true },
  STANDBY_UNVERIFIED: { exit: EXIT.refused, retryable: false },
  // A former primary that is to become a standby.
  NOT_FENCED: { exit: EXIT.refused, retryable: false },
  /** A process has a database open that is to be taken over. */
  APPLICATION_RUNNING: { exit: EXIT.refused, retryable: true },
  /** What the log says of the last common offset is not known here any more: only a new copy helps. */
  NO_COMMON_STATE: { exit: EXIT.refused, retryable: false },
  REJOIN_UNFINISHED: { exit: EXIT.refused, retryable: false },
  // Records.
  RECORD_INVALID: { exit: EXIT.verification, retryable: false },
  RECORD_VERSION: { exit: EXIT.failed, retryable: false },
  RECORD_TOO_LARGE: { exit: EXIT.failed, retryable: false },
  // Repositories.
  REPOSITORY_EMPTY: { exit: EXIT.failed, retryable: false },
  /** It was there before, and the place is empty. */
  REPOSITORY_GONE: { exit: EXIT.unreachable, retryable: true },
  REPOSITORY_FOREIGN: { exit: EXIT.usage, retryable: false },
  REPOSITORY_VERSION: { exit: EXIT.failed, retryable: false },
  REPOSITORY_LOCKED: { exit: EXIT.refused, retryable: true },
  REPOSITORY_CHANGED: { exit: EXIT.failed, retryable: true },
  // Encryption.
  KEY_MISSING: { exit: EXIT.usage, retryable: false },
  KEY_WRONG: { exit: EXIT.usage, retryable: false },
  NOT_ENCRYPTED: { exit: EXIT.usage, retryable: false },
  KEY_DAMAGED: { exit: EXIT.verification, retryable: false },
  // The standby and restore.
  STANDBY_DIVERGED: { exit: EXIT.verification, retryable: false },
  STANDBY_WRITTEN: { exit: EXIT.verification, retryable: false },
  STANDBY_FOREIGN: { exit: EXIT.usage, retryable: false },
  CHECKSUM_MISMATCH: { exit: EXIT.verification, retryable: false },
  /** On the way to a place of a tree is something that might lead elsewhere. */
  PATH_UNSAFE: { exit: EXIT.verification, retryable: false },
  INTEGRITY: { exit: EXIT.verification, retryable: false },
  /** A base that was under way; the next try goes on with what it stored. */
  BASE_ABANDONED: { exit: EXIT.failed, retryable: true },
  TARGET_NOT_EMPTY: { exit: EXIT.refused, retryable: false },
  // The stores of repositories and their objects.
  STORE_UNREACHABLE: { exit: EXIT.unreachable, retryable: true },
  STORE_DENIED: { exit: EXIT.unreachable, retryable: false },
  STORE_FULL: { exit: EXIT.failed, retryable: true },
  OBJECT_MISSING: { exit: EXIT.verification, retryable: false },
  OBJECT_CORRUPT: { exit: EXIT.verification, retryable: false },
  OBJECT_EXISTS: { exit: EXIT.failed, retryable: false },
  /** Under a retention lock of the store. */
  OBJECT_LOCKED: { exit: EXIT.refused, retryable: false },
  // Agents and their host.
  AGENT_NOT_RUNNING: { exit: EXIT.unreachable, retryable: true },
  AGENT_RUNNING: { exit: EXIT.refused, retryable: false },
  STATE_FOREIGN: { exit: EXIT.usage, retryable: false },
  TIMEOUT: { exit: EXIT.failed, retryable: true },
  DISK_FULL: { exit: EXIT.failed, retryable: true },
  INTERRUPTED: { exit: EXIT.interrupted, retryable: false },
  IO: { exit: EXIT.failed, retryable: true },
  INTERNAL: { exit: EXIT.failed, retryable: false },
} as const satisfies Record<string, { exit: number; retryable: boolean }>;

export type ErrorCode = keyof typeof CODES;

/** For a code that came from another process. */
export function isErrorCode(text: unknown): text is ErrorCode {
  return typeof text === "string" && Object.hasOwn(CODES, text);
}

export interface ErrorDetail {
  /** The next step, a sentence the user can act on. */
  readonly hint: string;
  readonly cause?: unknown;
}

/** An error a user may see: a code, evidence in the message, and the next step in `hint`. */
export class TidemarkError extends Error {
  override readonly name = "TidemarkError";
  readonly code: ErrorCode;
  readonly hint: string;

  constructor(code: ErrorCode, message: string, detail: ErrorDetail) {
    super(message, { cause: detail.cause });
    this.code = code;
    this.hint = detail.hint;
  }

  get exitCode(): number {
    return CODES[this.code].exit;
  }

  /** Whether the same call can succeed later without anybody changing anything by hand. */
  get retryable(): boolean {
    return CODES[this.code].retryable;
  }
}

export function hasCode(error: unknown, ...codes: readonly ErrorCode[]): error is TidemarkError {
  return error instanceof TidemarkError && codes.includes(error.code);
}

/** Errno of a Node system error, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/** Wraps whatever was thrown, so that the command line always has a code and a next step to print. */
export function toTidemarkError(error: unknown): TidemarkError {
  if (error instanceof TidemarkError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const errno = errnoOf(error);
  if (errno === "ENOSPC" || errno === "EDQUOT" || errno === "SQLITE_FULL") {
    return new TidemarkError("DISK_FULL", `no room on the disk: ${message}`, {
      hint: "Free space on that file system; the next start continues where this one stopped.",
      cause: error,
    });
  }
  if (errno !== undefined && /^E[A-Z]+$|^SQLITE_/.test(errno)) {
    return new TidemarkError("IO", `${errno}: ${message}`, {
      hint: "Check the path, its permissions and the disk named in the message.",
      cause: error,
    });
  }
  return new TidemarkError("INTERNAL", message, {
    hint: "This is a fault in Tidemark. Run again with TIDEMARK_LOG=debug and report what it prints.",
    cause: error,
  });
}
