import type { Clock } from "../runtime/clock.ts";

const PAUSE_MS = 500;
/** Less is what two clocks differ by that are not read in the same moment. */
const STEP_MS = 100;

/**
 * How long the client library is to wait before it tries a server again. It measures that with the wall clock: one that was
 * set back by an hour would keep it from trying for an hour. So each server's next wait is shorter by as much.
 */
export function reconnectPauses(servers: number, clock: Clock): () => number {
  const offset = (): number => clock.now() - clock.monotonic();
  let knownMs = offset();
  let setBackMs = 0;
  /** It asks once for each server in turn. */
  let left = 0;
  return () => {
    const nowMs = offset();
    if (nowMs < knownMs - STEP_MS) {
      setBackMs = (left > 0 ? setBackMs : 0) + knownMs - nowMs;
      left = servers;
    }
    knownMs = nowMs;
    if (left === 0) return PAUSE_MS * (0.5 + Math.random());
    left -= 1;
    // At once: what is longer than the time since its last attempt would be waited for by the new clock.
    return -setBackMs - STEP_MS;
  };
}
