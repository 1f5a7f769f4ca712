import { type CrashPoint, crashPoint } from "../../runtime/crash-point.ts";
import { eachOf } from "../../runtime/each-of.ts";
import { hasCode } from "../../runtime/errors.ts";
import { ObjectLocked } from "../object-store.ts";
import type { Repository } from "../repository.ts";
import type { Survey } from "../survey.ts";

/** Requests side by side. */
const PARALLEL = 8;

export interface RemoverOptions {
  readonly repository: Repository;
  readonly survey: Survey;
  /** Otherwise it only counts. */
  readonly confirm: boolean;
  readonly signal: AbortSignal;
}

/** Removes objects, and notes what the store does not let go. */
export class Remover {
  readonly removed = new Set<string>();
  /** By its name: until when. */
  readonly locked = new Map<string, string>();
  readonly #options: RemoverOptions;

  constructor(options: RemoverOptions) {
    this.#options = options;
  }

  /** Those that are there. Afterwards `point` is passed, for each. */
  async remove(names: readonly string[], point: CrashPoint): Promise<void> {
    const { repository, survey, confirm, signal } = this.#options;
    await eachOf(names, PARALLEL, async (name) => {
      if (survey.bytesOf(name) === undefined) return;
      try {
        if (confirm) await repository.objects.store.remove(name, signal);
        this.removed.add(name);
        crashPoint(point);
      } catch (error) {
        if (!hasCode(error, "OBJECT_LOCKED")) throw error;
        this.locked.set(name, error instanceof ObjectLocked ? error.until : "it says so no more");
      }
    });
  }

  /** The last of the dates that were told. */
  get lockedUntil(): string | undefined {
    return [...this.locked.values()].toSorted().at(-1);
  }
}
