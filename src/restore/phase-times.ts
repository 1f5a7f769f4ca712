import type { Clock } from "../runtime/clock.ts";
import type { RestoreProgress } from "./carry-out.ts";

/** `sync`: making the result durable and putting it in its place. */
type Phase = RestoreProgress["phase"] | "sync";

export type PhasesMs = Readonly<Partial<Record<Phase, number>>>;

/** How long a restore takes, and each of its phases: one lasts until the next begins. */
export class PhaseTimes {
  readonly #clock: Clock;
  readonly #startMs: number;
  readonly #phasesMs = new Map<Phase, number>();
  #current: { readonly phase: Phase; readonly sinceMs: number } | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#startMs = clock.monotonic();
  }

  begin(phase: Phase | undefined): void {
    if (phase === this.#current?.phase) return;
    const nowMs = this.#clock.monotonic();
    const ended = this.#current;
    if (ended) this.#phasesMs.set(ended.phase, (this.#phasesMs.get(ended.phase) ?? 0) + nowMs - ended.sinceMs);
    this.#current = phase && { phase, sinceMs: nowMs };
  }

  end(): { readonly durationMs: number; readonly phasesMs: PhasesMs } {
    this.begin(undefined);
    const phasesMs = Object.fromEntries([...this.#phasesMs].map(([phase, ms]) => [phase, Math.round(ms)]));
    return { durationMs: Math.round(this.#clock.monotonic() - this.#startMs), phasesMs };
  }
}
