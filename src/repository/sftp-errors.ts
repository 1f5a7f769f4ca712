import { TidemarkError } from "../runtime/errors.ts";

/** Status codes of the SFTP protocol (draft-ietf-secsh-filexfer-02, 7). */
const END_OF_FILE = 1;
const NO_SUCH_FILE = 2;
const PERMISSION_DENIED = 3;
const UNSUPPORTED = 8;

export function isSftpAbsence(error: unknown): boolean {
  return statusOf(error) === NO_SUCH_FILE;
}

export function isSftpEnd(error: unknown): boolean {
  return statusOf(error) === END_OF_FILE;
}

/** The client knows it from the greeting. */
export function isSftpUnsupported(error: unknown): boolean {
  if (statusOf(error) === UNSUPPORTED) return true;
  return error instanceof Error && /does not support this extended request/i.test(error.message);
}

/** An answer of the server; everything else leaves the connection in doubt. */
export function isSftpAnswer(error: unknown): boolean {
  return statusOf(error) !== undefined || isSftpUnsupported(error);
}

interface ObjectThere {
  readonly location: string;
  readonly name: string;
}

/** What a call threw, as a store says it. */
export function sftpStoreError(error: unknown, there: ObjectThere): TidemarkError {
  if (statusOf(error) === PERMISSION_DENIED) {
    return new TidemarkError("STORE_DENIED", textOf(error, there), {
      hint: "Give this user the right to read and write in the repository's directory.",
      cause: error,
    });
  }
  return new TidemarkError("STORE_UNREACHABLE", textOf(error, there), {
    hint: "Check the network, that SFTP is served there, and room and quota there; it is tried again.",
    cause: error,
  });
}

/** What went wrong before the first call. */
export function sftpConnectError(error: unknown, location: string): TidemarkError {
  if (error instanceof TidemarkError) return error;
  const at = `${location}: ${error instanceof Error ? error.message : String(error)}`;
  if (isLogin(error)) {
    return new TidemarkError("STORE_DENIED", at, {
      hint: "Check user, key (keyFile, ssh-agent) or TIDEMARK_SFTP_PASSWORD.",
      cause: error,
    });
  }
  return new TidemarkError("STORE_UNREACHABLE", at, {
    hint: "Check host, port, network and that SFTP is served there; it is tried again.",
    cause: error,
  });
}

export function sftpStoreFull(error: unknown, there: ObjectThere): TidemarkError {
  return new TidemarkError("STORE_FULL", `${textOf(error, there)}: no room there`, {
    hint: "Free space there, or keep fewer backups with `tidemark expire`; it goes on by itself.",
    cause: error,
  });
}

function textOf(error: unknown, { location, name }: ObjectThere): string {
  return `${location}: ${name}: ${error instanceof Error ? error.message : String(error)}`;
}

/** Errors of the network have a word there instead of a number, and those of a timeout a number of another kind. */
function statusOf(error: unknown): number | undefined {
  if (error instanceof DOMException) return undefined;
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "number" ? code : undefined;
}

/** A server that counts tries hangs up after the last, before the client has run out of keys. */
function isLogin(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return ("level" in error && error.level === "client-authentication") || /authentication failures/.test(error.message);
}
