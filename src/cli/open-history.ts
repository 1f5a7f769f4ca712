import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import type { Settings } from "../config/load-config.ts";
import type { ChangeLog } from "../log/change-log.ts";
import type { Repository } from "../repository/repository.ts";
import type { RepositoryArchive } from "../restore/archive.ts";
import type { History } from "../restore/history.ts";
import { TidemarkError } from "../runtime/errors.ts";
import type { Cli } from "./cli.ts";
import { openLogToRead } from "./open-log.ts";
import { type HistoryOptions, settingsFor } from "./set-options.ts";

/** What a command that looks back reads. */
export interface OpenedHistory extends AsyncDisposable {
  readonly history: History;
  /** Undefined: only the log is read. */
  readonly archive: RepositoryArchive | undefined;
  /** Why the log behind the repositories is not read, though it is known where it is. */
  readonly withoutLog: TidemarkError | undefined;
}

export interface OpenHistoryOptions {
  /** For messages. */
  readonly command: string;
  /** Of the command line. Repositories: the one that is preferred first. */
  readonly options: HistoryOptions;
  /** Repositories of the configuration are read too, also where the log holds everything. */
  readonly configured: boolean;
  /** What is encrypted is to be opened: a missing key is an error right away. */
  readonly keys: boolean;
  /** A lot is read: nothing of it may expire meanwhile. */
  readonly long?: boolean;
}

/**
 * The repositories, joined with the log's tail when that can be reached; without repositories the log alone. Tells on
 * stderr what is left out or damaged.
 */
export async function openHistory(cli: Cli, options: OpenHistoryOptions): Promise<OpenedHistory> {
  await using stack = new AsyncDisposableStack();
  const [{ LogHistory }, { requireKeys }] = await Promise.all([
    import("../restore/log-history.ts"),
    import("../log/open-record.ts"),
  ]);
  const { command, options: given, keys } = options;
  const { log: wanted, ...flags } = given;
  const settings = await settingsFor(cli, "client", { ...flags, log: wanted === false ? undefined : wanted });
  const isAsked = (given.repository ?? []).length > 0;
  const wantsThem = isAsked || options.configured || (await isTrimmed(cli, command, settings));
  const repositories = wantsThem ? await openRepositories(cli, settings, { isAsked, stack }) : [];
  if (repositories.length === 0) {
    if (wanted === false) throw nothingToRead();
    const log = stack.use(await openLogToRead(command, settings));
    if (keys) await requireKeys(log);
    return opened({ history: new LogHistory(log), archive: undefined, withoutLog: undefined }, stack.move());
  }
  if (options.long) for (const repository of repositories) await announce(cli, repository, stack);
  const log = wanted !== false && settings.log ? await tryLog(cli, settings, options) : undefined;
  if (log && !(log instanceof TidemarkError)) stack.use(log);
  const { openArchive } = await import("../restore/archive.ts");
  const archive = await openArchive({
    repositories,
    log: log && !(log instanceof TidemarkError) ? new LogHistory(log) : undefined,
    onDamage: (error) => cli.note(`note: ${error.code}: ${error.message}; something else was taken instead`),
    signal: cli.signal,
  });
  const withoutLog = log instanceof TidemarkError ? log : undefined;
  return opened({ history: archive.history, archive, withoutLog }, stack.move());
}

/** Whether repositories hold what the log does not. One that cannot be read may have been trimmed. */
async function isTrimmed(cli: Cli, command: string, settings: Settings): Promise<boolean> {
  if (settings.repositories.length === 0 || !settings.log) return settings.repositories.length > 0;
  try {
    await using log = await openLogToRead(command, settings);
    return (await log.bounds()).first > 1;
  } catch (error) {
    if (!(error instanceof TidemarkError) || cli.signal.aborted) throw error;
    return true;
  }
}

function opened(history: Omit<OpenedHistory, keyof AsyncDisposable>, owned: AsyncDisposableStack): OpenedHistory {
  return { ...history, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Those that can be read. `isAsked`: they were named for this command, so one at least must be. */
async function openRepositories(
  cli: Cli,
  { repositories, encryption, log }: Settings,
  { isAsked, stack }: { readonly isAsked: boolean; readonly stack: AsyncDisposableStack },
): Promise<Repository[]> {
  if (repositories.length === 0) return [];
  const { openRepositoryToRead } = await import("../compose.ts");
  const cacheDirectory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-index-"));
  stack.defer(() => fs.rmSync(cacheDirectory, { recursive: true, force: true }));
  const found: Repository[] = [];
  const problems: TidemarkError[] = [];
  for (const repository of repositories) {
    try {
      const options = { repository, cacheDirectory, encryption, clock: cli.clock, signal: cli.signal };
      found.push(stack.use(await openRepositoryToRead(options)));
    } catch (error) {
      if (!(error instanceof TidemarkError) || cli.signal.aborted) throw error;
      problems.push(error);
    }
  }
  if (found.length === 0 && problems[0] && (isAsked || !log)) throw problems[0];
  for (const { code, message } of problems) cli.note(`note: ${code}: ${message}; it is left out`);
  return found;
}

/** Who may only read there cannot say that he does: what is there is removed a day after it was marked at the earliest. */
async function announce(cli: Cli, repository: Repository, stack: AsyncDisposableStack): Promise<void> {
  try {
    stack.use(await repository.announce(cli.signal));
  } catch (error) {
    if (!(error instanceof TidemarkError) || cli.signal.aborted) throw error;
    const { code, message } = error;
    cli.note(`note: ${code}: ${message}; so expire is not kept from ${repository.location}, finish within a day`);
  }
}

/** Whatever is wrong with it: the repositories are what is left then. */
async function tryLog(
  cli: Cli,
  settings: Settings,
  { command, keys }: OpenHistoryOptions,
): Promise<ChangeLog | TidemarkError> {
  const { requireKeys } = await import("../log/open-record.ts");
  let log: ChangeLog | undefined;
  try {
    log = await openLogToRead(command, settings);
    if (keys) await requireKeys(log);
    return log;
  } catch (error) {
    await log?.[Symbol.asyncDispose]();
    if (!(error instanceof TidemarkError) || cli.signal.aborted) throw error;
    cli.note(`note: without the log, which may hold more than the repository: ${error.code}: ${error.message}`);
    return error;
  }
}

function nothingToRead(): TidemarkError {
  return new TidemarkError("USAGE", "--no-log leaves nothing to read", {
    hint: "Name a repository with --repository.",
  });
}
