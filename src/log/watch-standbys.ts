import type { Offset } from "../event/positions.ts";
import { type Clock, sleep } from "../runtime/clock.ts";
import type { ChangeLog, RegisteredReplica } from "./change-log.ts";

/** Between two looks: soon at first, because standbys answer within milliseconds. */
const FIRST_PAUSE_MS = 2;
const LONGEST_PAUSE_MS = 100;
const GROWTH = 1.3;

export interface WatchStandbysOptions {
  readonly clock: Clock;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** What the standbys of a log say of themselves, as soon as it is `enough`, or at the end of the time. @throws LOG_DENIED, LOG_UNREACHABLE */
export async function watchStandbys(
  log: ChangeLog,
  enough: (standbys: readonly RegisteredReplica[]) => boolean,
  { clock, timeoutMs, signal }: WatchStandbysOptions,
): Promise<readonly RegisteredReplica[]> {
  const untilMs = clock.monotonic() + timeoutMs;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * GROWTH, LONGEST_PAUSE_MS)) {
    const standbys = await log.replicas();
    const leftMs = untilMs - clock.monotonic();
    if (enough(standbys) || leftMs <= 0 || signal.aborted) return standbys;
    await sleep(Math.min(pauseMs, leftMs), signal);
  }
}

/** Last event that readers see there, as far as is known. */
export function appliedBy({ position, offset }: RegisteredReplica): Offset {
  return position?.applied ?? offset;
}

export function shownStandby({ host, standby, id }: Pick<RegisteredReplica, "host" | "standby" | "id">): string {
  return `${host}:${standby} (${id})`;
}
