import type { CaptureAgent } from "../capture/capture-agent.ts";
import { formatDuration } from "../config/units.ts";
import type { Offset } from "../event/positions.ts";
import type { ChangeLog, RegisteredReplica } from "../log/change-log.ts";
import { appliedBy, watchStandbys } from "../log/watch-standbys.ts";
import { type Clock, sleep } from "../runtime/clock.ts";
import { TidemarkError } from "../runtime/errors.ts";

export interface Asked {
  /** Everything that was committed before the call is in the log up to here. */
  readonly offset: Offset;
  /** What the standbys say of themselves by now; without those that know more than there was to know. */
  readonly standbys: readonly RegisteredReplica[];
}

export interface AskOptions {
  readonly clock: Clock;
  /** For everything, and of that for the answers; all of it when left out. */
  readonly timeoutMs: number;
  readonly answerMs?: number;
  readonly signal: AbortSignal;
}

/**
 * Brings everything into the log and asks the standbys how far they are, until what they say is `enough`, or the time is over.
 *
 * @throws TIMEOUT when the log does not take it, INTERRUPTED, and what the log refuses
 */
export async function askStandbys(
  { agent, log }: { readonly agent: Pick<CaptureAgent, "sync" | "askStandbys">; readonly log: ChangeLog },
  enough: (standbys: readonly RegisteredReplica[], offset: Offset) => boolean,
  { clock, timeoutMs, answerMs = timeoutMs, signal }: AskOptions,
): Promise<Asked> {
  const untilMs = clock.monotonic() + timeoutMs;
  const question = async (): Promise<{ offset: Offset; strangers: ReadonlySet<string> }> => {
    const [before] = await Promise.all([log.replicas(), agent.sync()]);
    const offset = await agent.askStandbys();
    // One that had applied what was not there yet follows another log, perhaps one that was lost.
    return { offset, strangers: new Set(before.filter((one) => appliedBy(one) >= offset).map(({ id }) => id)) };
  };
  const { offset, strangers } = await inTime(question(), { timeoutMs, signal });
  const ours = (known: readonly RegisteredReplica[]): RegisteredReplica[] =>
    known.filter(({ id }) => !strangers.has(id));
  const patience = { clock, timeoutMs: Math.min(answerMs, untilMs - clock.monotonic()), signal };
  return { offset, standbys: ours(await watchStandbys(log, (known) => enough(ours(known), offset), patience)) };
}

/** Nobody waits any longer for work that may go on. */
async function inTime<T>(
  work: Promise<T>,
  { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<T> {
  work.catch(() => undefined);
  const done = new AbortController();
  const late = sleep(timeoutMs, AbortSignal.any([done.signal, signal])).then(() => {
    throw signal.aborted ? interrupted() : notInLog(timeoutMs);
  });
  late.catch(() => undefined);
  return Promise.race([work, late]).finally(() => done.abort());
}

function interrupted(): TidemarkError {
  return new TidemarkError("INTERRUPTED", "interrupted before the standbys had answered", {
    hint: "Nothing was changed. Run the command again.",
  });
}

function notInLog(timeoutMs: number): TidemarkError {
  return new TidemarkError(
    "TIMEOUT",
    `what was committed before this call is not in the log after ${formatDuration(timeoutMs)}`,
    { hint: "Nothing was changed. `tidemark status` tells what capture waits for; --timeout gives it longer." },
  );
}
