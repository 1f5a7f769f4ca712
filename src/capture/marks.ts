import { BEFORE_FIRST, offset as toOffset, type Offset } from "../event/positions.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { readEvents } from "../log/log-reader.ts";
import type { Clock } from "../runtime/clock.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { TidemarkError } from "../runtime/errors.ts";
import type { CaptureFeed } from "./capture-feed.ts";
import type { CaptureState } from "./capture-state.ts";

export interface MarksOptions {
  readonly state: CaptureState;
  readonly log: ChangeLog;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/**
 * Marks: each name once. A name is announced in the state before it is sent, so that after a crash in between the log is
 * asked whether it got there.
 */
export class Marks {
  readonly #options: MarksOptions;
  readonly #underWay = new Set<string>();

  constructor(options: MarksOptions) {
    this.#options = options;
  }

  /** `sync`: what was committed before the call belongs before the mark, and so do files. @throws MARK_EXISTS */
  async make(name: string, feed: CaptureFeed, sync: () => Promise<void>): Promise<{ offset: Offset; atMs: number }> {
    if (this.#underWay.has(name)) throw exists(name);
    this.#underWay.add(name);
    try {
      if (await this.#isTaken(name)) throw exists(name);
      const atMs = this.#options.clock.now();
      await sync();
      const offset = await this.#append(name, feed);
      return { offset, atMs: Math.max(atMs, feed.writer.acknowledged.timeMs) };
    } finally {
      this.#underWay.delete(name);
    }
  }

  async #append(name: string, feed: CaptureFeed): Promise<Offset> {
    const { state } = this.#options;
    state.announceMark(name, feed.writer.head);
    crashPoint("mark: announced");
    const { offset, acknowledged } = await feed.sendInTurn({ kind: "mark", name });
    await acknowledged;
    crashPoint("mark: acknowledged");
    state.addMark(name, offset);
    crashPoint("mark: noted");
    return offset;
  }

  async #isTaken(name: string): Promise<boolean> {
    const { state, log, signal } = this.#options;
    const known = state.mark(name);
    if (!known || known.sent) return known !== undefined;
    const { first, last } = await log.bounds();
    const after = toOffset(Math.max(known.offset, first - 1, BEFORE_FIRST));
    for await (const events of readEvents(log, { after, through: last, follow: false, sealed: true, signal })) {
      const found = events.find(({ body }) => body.kind === "mark" && body.name === name);
      if (!found) continue;
      state.addMark(name, found.offset);
      return true;
    }
    return false;
  }
}

function exists(name: string): TidemarkError {
  return new TidemarkError("MARK_EXISTS", `there is a mark ${name} already`, {
    hint: "Marks are never moved. Choose another name; `tidemark marks` lists them.",
  });
}
