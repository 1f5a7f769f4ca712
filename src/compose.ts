import type { EncryptionConfig, LogConfig, RepositoryConfig } from "./config/config.ts";
import { Identities } from "./keys/identities.ts";
import type { DataKey } from "./keys/data-key.ts";
import type { ChangeLog, LogBeginning } from "./log/change-log.ts";
import { LogKeys } from "./log/log-keys.ts";
import { keyInUse } from "./log/open-record.ts";
import { RepositoryKeys } from "./repository/keys/repository-keys.ts";
import { Sealing } from "./repository/keys/sealing.ts";
import { openRepository } from "./repository/open-repository.ts";
import { openStore } from "./repository/open-store.ts";
import type { Repository } from "./repository/repository.ts";
import type { Clock } from "./runtime/clock.ts";
import { hasCode, TidemarkError } from "./runtime/errors.ts";
import { retry } from "./runtime/retry.ts";

export interface OpenLogOptions {
  readonly log: LogConfig;
  readonly set: string;
  readonly mode: "write" | "read";
  readonly encryption: EncryptionConfig;
  /** Of a capture of this host, whose own keys open what it wrote itself. */
  readonly state?: string | undefined;
  /** With mode write: makes a log that goes on with a lost one. */
  readonly begin?: LogBeginning | undefined;
  readonly onProblem?: (error: TidemarkError) => void;
}

/** One attempt, for commands that end. @throws LOG_UNREACHABLE, LOG_DENIED, LOG_FOREIGN, AGENT_RUNNING */
export async function openLog({ log, encryption, state, ...rest }: OpenLogOptions): Promise<ChangeLog> {
  const keys = new LogKeys({ identities: new Identities(encryption.identity), kept: await keptIn(state) });
  const options = { ...rest, keys };
  // Loaded when it is asked for: the NATS client alone takes a fifth of a short command's processor time.
  switch (log.kind) {
    case "embedded": {
      const { openEmbeddedLog } = await import("./log/embedded-log.ts");
      return openEmbeddedLog({ directory: log.directory, ...options });
    }
    case "nats": {
      const { openJetStreamLog } = await import("./log/jetstream-log.ts");
      return openJetStreamLog({ config: log, ...options });
    }
    default:
      return log satisfies never;
  }
}

/** Of a repository. `log`: of whoever writes it; what the log encrypts, the repository encrypts. @throws as keyInUse */
export async function repositorySealing(
  { encryption, state }: Pick<OpenLogOptions, "encryption" | "state">,
  { clock, log }: { readonly clock: Clock; readonly log?: ChangeLog },
): Promise<Sealing> {
  const identities = new Identities(encryption.identity);
  const logKey = log && (await keyInUse(log));
  // The very first records may be on their way.
  if (log && !logKey && encryption.recipients.length > 0) throw noKeyYet(log);
  return new Sealing({ identities, kept: await keptIn(state), clock, logKey });
}

function noKeyYet({ location }: ChangeLog): TidemarkError {
  return new TidemarkError(
    "LOG_EMPTY",
    `${location}: no key was announced yet, and what is archived is to be encrypted`,
    {
      hint: "Start the capture agent with encryption: in its configuration, too.",
    },
  );
}

/** What reads them is loaded only where there may be some. */
async function keptIn(state: string | undefined): Promise<() => readonly DataKey[]> {
  if (state === undefined) return () => [];
  const { readKeptKeys } = await import("./keys/kept-keys.ts");
  return () => {
    const keys = readKeptKeys(state);
    return keys ? [keys.current, ...keys.previous] : [];
  };
}

export interface OpenRepositoryToReadOptions {
  readonly repository: RepositoryConfig;
  /** Whose it must be, when that is known. */
  readonly set?: string | undefined;
  /** For the index of its blobs while it is open. */
  readonly cacheDirectory: string;
  readonly encryption: EncryptionConfig;
  /** Of a capture of this host, whose own keys open what it wrote itself. */
  readonly state?: string | undefined;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** @throws STORE_UNREACHABLE, STORE_DENIED, REPOSITORY_EMPTY, REPOSITORY_VERSION, KEY_MISSING, KEY_WRONG */
export async function openRepositoryToRead(options: OpenRepositoryToReadOptions): Promise<Repository> {
  const { repository, encryption, set, state, ...rest } = options;
  const { store } = await openStore(repository, rest.clock);
  const sealing = await repositorySealing({ encryption, state }, rest);
  const known = set === undefined ? {} : { set };
  return openRepository({ ...rest, ...known, store, mode: "read", createdBy: "", sealing });
}

export type RepositoryKeysOptions = Omit<OpenRepositoryToReadOptions, "cacheDirectory">;

/** For who changes who can read a repository: `work` gets its keys. @throws NOT_ENCRYPTED, STORE_UNREACHABLE, STORE_DENIED */
export async function withRepositoryKeys<T>(
  { repository, encryption, clock, signal }: RepositoryKeysOptions,
  work: (keys: RepositoryKeys, shownLocation: string) => Promise<T>,
): Promise<T> {
  await using store = (await openStore(repository, clock)).store;
  const identities = new Identities(encryption.identity);
  const keys = await RepositoryKeys.read({ store, identities, clock }, signal);
  if (keys.all.length > 0) return work(keys, store.location);
  throw new TidemarkError("NOT_ENCRYPTED", `${store.location}: there are no keys, so nothing in it is encrypted`, {
    hint: "Check the place. A new repository is encrypted when the log of its set is.",
  });
}

export interface OpenLogPatientlyOptions extends OpenLogOptions {
  readonly signal: AbortSignal;
  readonly onRetry: (error: TidemarkError, delayMs: number) => void;
}

/**
 * For agents: waits out a log that is away or full, with back-off; other faults are the user's to mend and thrown.
 * Undefined when `signal` aborted meanwhile.
 */
export async function openLogPatiently({
  signal,
  onRetry,
  ...options
}: OpenLogPatientlyOptions): Promise<ChangeLog | undefined> {
  const attempt = async (): Promise<{ log: ChangeLog } | { fatal: unknown }> => {
    try {
      return { log: await openLog(options) };
    } catch (error) {
      if (hasCode(error, "LOG_UNREACHABLE", "LOG_FULL")) throw error;
      return { fatal: error };
    }
  };
  try {
    const opened = await retry(attempt, { signal, onRetry });
    if ("fatal" in opened) throw opened.fatal;
    return opened.log;
  } catch (error) {
    if (signal.aborted && hasCode(error, "LOG_UNREACHABLE", "LOG_FULL")) return undefined;
    throw error;
  }
}
