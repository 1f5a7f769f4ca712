import type { StreamInfo } from "@nats-io/jetstream";
import { type Offset, offset } from "../event/positions.ts";
import { sleep } from "../runtime/clock.ts";
import { baseOf } from "./jetstream-beginning.ts";
import { boundsOf, messageAt, type OpenStream, streamInfo } from "./jetstream-stream.ts";
import { lostError, recreatedError, regressedError } from "./log-errors.ts";

const LOOKS = 3;
/** A leader that was just elected applies what the cluster has agreed on before it can tell of it: on busy machines that takes seconds. */
const LOOKS_IN_CLUSTER = 20;
const NEXT_LOOK_MS = 700;

/**
 * Looks at the stream again: is it still the one that was opened, and does it still hold `known`? A cluster that has just
 * elected a leader may deny both for a moment, so bad news is believed only when it is heard several times. A server that
 * meets a damaged record may cut its stream off there: then the head that was seen at opening is gone.
 */
export async function lookAgain(stream: OpenStream, known: Offset): Promise<StreamInfo> {
  const seen = offset(Math.max(known, stream.head));
  const looks = stream.connection.nats.info?.cluster === undefined ? LOOKS : LOOKS_IN_CLUSTER;
  for (let look = 1; ; look += 1) {
    const info = await streamInfo(stream.connection, stream.name);
    if (info && info.created !== stream.created) {
      if (seen > stream.base || baseOf(info.config) !== stream.base)
        throw recreatedError(stream.location, `the stream was created again at ${info.created}`);
      // Nothing of it was read or written yet. In a cluster a server tells a time of its own until the stream has its leader.
      stream.created = info.created;
    }
    if (info && boundsOf(info).last >= seen) return info;
    if (look >= looks && !info) throw recreatedError(stream.location, "the stream was deleted while it was in use");
    if (look >= looks && info) throw regressedError(stream.location, seen, boundsOf(info).last);
    await sleep(NEXT_LOOK_MS);
  }
}

/**
 * For a reader to whom nothing comes. A server passes a record that it cannot read any more to no consumer, nor what lies
 * behind it, and says that all is well: only who asks for the record by its number is told. @throws LOG_GAP
 */
export async function assertHeld(stream: OpenStream, at: Offset): Promise<void> {
  for (let look = 1; ; look += 1) {
    const { first, last } = boundsOf(await lookAgain(stream, offset(at - 1)));
    if (last < at || first > at) return;
    if (await messageAt(stream, at)) return;
    if (look === LOOKS) throw lostError(stream.location, at, last);
    await sleep(NEXT_LOOK_MS);
  }
}
