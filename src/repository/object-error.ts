import { RecordProblem } from "../event/record-error.ts";
import { TidemarkError } from "../runtime/errors.ts";

/** An object that a later version wrote: nothing is wrong with it. */
export class NewerObject extends Error {
  override readonly name = "NewerObject";
}

export interface ObjectPlace {
  /** Of the store. */
  readonly location: string;
  readonly name: string;
}

/** Runs `work` on the bytes of an object. @throws OBJECT_CORRUPT, REPOSITORY_VERSION, both with its name */
export async function locatingObject<T>(place: ObjectPlace, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw objectError(error, place);
  }
}

/** What was thrown, as an error that names the object. */
export function objectError(error: unknown, { location, name }: ObjectPlace): unknown {
  if (error instanceof NewerObject) {
    return new TidemarkError("REPOSITORY_VERSION", `${location}: ${name}: ${error.message}`, {
      hint: "A newer Tidemark wrote it. Upgrade Tidemark on this host.",
    });
  }
  if (!(error instanceof RecordProblem)) return error;
  return new TidemarkError("OBJECT_CORRUPT", `${location}: ${name}: ${error.message}`, {
    hint: "The object is damaged, or stands in another's place. `tidemark verify` tells what depends on it.",
    cause: error.cause,
  });
}
