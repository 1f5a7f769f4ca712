import type { LogEvent } from "../event/kinds.ts";
import { BEFORE_FIRST, type Offset } from "../event/positions.ts";
import type { Clock } from "../runtime/clock.ts";
import type { TidemarkError } from "../runtime/errors.ts";
import { AppliedWaiters } from "./applied-waiters.ts";
import type { ReplicaStatus } from "./replica-agent.ts";

/** How far a replica is, for its status and for those who wait. */
export class ReplicaProgress {
  readonly waiters = new AppliedWaiters();
  state: ReplicaStatus["state"] = "starting";
  problem: TidemarkError | undefined;
  /** A standby file is not what the log says, and not repaired yet. */
  diverged = false;
  readonly #repairs = new Map<string, number>();
  readonly #clock: Clock;
  #applied: Offset = BEFORE_FIRST;
  #appliedTimeMs = 0;
  #head: Offset = BEFORE_FIRST;
  #waitingSinceMs: number | undefined;
  #lastApplyMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get applied(): Offset {
    return this.#applied;
  }

  get head(): Offset {
    return this.#head;
  }

  /** Times a database was repaired since the start. */
  repairsOf(name: string): number {
    return this.#repairs.get(name) ?? 0;
  }

  repaired(name: string): void {
    this.#repairs.set(name, this.repairsOf(name) + 1);
  }

  sawHead(head: Offset): void {
    if (head > this.#head) this.#head = head;
  }

  /** Events are in hand and not yet applied. */
  received(events: readonly LogEvent[]): void {
    const last = events.at(-1);
    if (last) this.sawHead(last.offset);
    this.#waitingSinceMs ??= events[0]?.timeMs;
  }

  /** Everything up to `offset` is visible. Never goes back: what was visible once stays visible. */
  shown(offset: Offset, timeMs: number, newestCommit: LogEvent | undefined): void {
    if (offset >= this.#applied) {
      this.#applied = offset;
      this.#appliedTimeMs = timeMs;
    }
    this.#waitingSinceMs = undefined;
    if (newestCommit) this.#lastApplyMs = Math.max(0, this.#clock.now() - newestCommit.timeMs);
    this.waiters.resolveThrough(this.#applied);
  }

  fields(): Pick<ReplicaStatus, "state" | "offset" | "atMs" | "head" | "lagEvents" | "lagMs" | "lastApplyMs"> {
    const waitingSinceMs = this.#waitingSinceMs;
    return {
      state: this.state,
      offset: this.#applied,
      atMs: this.#appliedTimeMs,
      head: this.#head,
      lagEvents: Math.max(0, this.#head - this.#applied),
      lagMs: waitingSinceMs === undefined ? 0 : Math.max(0, this.#clock.now() - waitingSinceMs),
      lastApplyMs: this.#lastApplyMs,
    };
  }
}
