import { errnoOf, TidemarkError, toTidemarkError } from "../runtime/errors.ts";

const FULL: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);
const DENIED: ReadonlySet<string> = new Set(["EACCES", "EPERM", "EROFS"]);
/** What a network file system, or a disk that was pulled, answers; ENOENT where something was a moment ago. */
const GONE: ReadonlySet<string> = new Set([
  ..."EIO ESTALE ENOTCONN ETIMEDOUT EHOSTDOWN EHOSTUNREACH ENODEV ENXIO EBUSY EAGAIN ECONNRESET".split(" "),
  ..."ENOENT EMFILE ENFILE EREMOTEIO ESHUTDOWN".split(" "),
]);

/** What went wrong with an object in a directory, as a store says it. */
export function fsStoreError(error: unknown, { location, name }: { location: string; name: string }): TidemarkError {
  const errno = errnoOf(error) ?? "";
  const at = `${location}: ${name}: ${error instanceof Error ? error.message : String(error)}`;
  if (FULL.has(errno)) {
    return new TidemarkError("STORE_FULL", at, {
      hint: "Free space there, or run `tidemark expire` with fewer backups to keep; it goes on by itself.",
      cause: error,
    });
  }
  if (DENIED.has(errno)) {
    return new TidemarkError("STORE_DENIED", at, {
      hint: "Give this user the right to read and write in the repository's directory.",
      cause: error,
    });
  }
  if (GONE.has(errno)) {
    return new TidemarkError("STORE_UNREACHABLE", at, {
      hint: "Check that the disk or share is mounted and answers; it is tried again.",
      cause: error,
    });
  }
  return toTidemarkError(error);
}

export function missingRoot(location: string): TidemarkError {
  return new TidemarkError(
    "STORE_UNREACHABLE",
    `${location}: the repository's config was there and is gone; is a disk or share no longer mounted?`,
    { hint: "Mount it again. A repository that was really removed is begun anew after a restart." },
  );
}
