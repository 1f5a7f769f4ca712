import type { Clock } from "../runtime/clock.ts";
import { TidemarkError } from "../runtime/errors.ts";
import type { BlobIndex } from "./blob-index.ts";
import { refreshIndex } from "./refresh-index.ts";
import type { SealedObjects } from "./sealed-objects.ts";

const HOUR_MS = 3_600_000;
/** Whoever goes by what is there looks anew after so long. */
const REFRESH_MS = HOUR_MS;
/** What was found there so long ago may have been marked since, but not be gone: see GRACE_MS of expire. */
const RELIABLE_MS = 2 * HOUR_MS;

/** What the local index says, as of a moment. */
export interface Look {
  readonly wallMs: number;
  readonly monotonicMs: number;
  readonly losses: number;
}

/**
 * How new the local index is. What is marked for deletion goes a day later at the earliest, so whoever refers to a blob
 * only shortly after he saw it unmarked does no harm; this sees to the "shortly", also when the process slept in between.
 */
export class IndexView {
  readonly #objects: SealedObjects;
  readonly #index: BlobIndex;
  readonly #clock: Clock;
  #look: Look | undefined;

  constructor(objects: SealedObjects, index: BlobIndex, clock: Clock) {
    this.#objects = objects;
    this.#index = index;
    this.#clock = clock;
  }

  async refresh(signal: AbortSignal): Promise<Look> {
    const beganAt = { wallMs: this.#clock.now(), monotonicMs: this.#clock.monotonic() };
    await refreshIndex(this.#index, this.#objects, signal);
    this.#look = { ...beganAt, losses: this.#index.losses() };
    return this.#look;
  }

  /** A look that is not old. */
  async recent(signal: AbortSignal): Promise<Look> {
    return this.#look && this.#age(this.#look) < REFRESH_MS ? this.#look : this.refresh(signal);
  }

  /** What was found there by that look may be referred to now. @throws REPOSITORY_CHANGED */
  async requireUnchanged(look: Look, signal: AbortSignal): Promise<void> {
    if (this.#age(look) < RELIABLE_MS) return;
    const { losses } = await this.refresh(signal);
    if (losses !== look.losses) throw repositoryChanged(this.#objects.location);
  }

  /** A monotonic clock stands still while the machine sleeps, a wall clock may be put back. */
  #age({ wallMs, monotonicMs }: Look): number {
    return Math.max(this.#clock.now() - wallMs, this.#clock.monotonic() - monotonicMs);
  }
}

/** What was found there may be on its way out by now. */
export function repositoryChanged(location: string): TidemarkError {
  return new TidemarkError(
    "REPOSITORY_CHANGED",
    `${location}: something may have been marked for deletion while this was written`,
    {
      hint: "It is begun again; nothing is lost.",
    },
  );
}
