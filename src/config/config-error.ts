import { TidemarkError } from "../runtime/errors.ts";

const HINT = "Correct it and try again; `tidemark check` tells whether the set-up is sound.";

export function configError(message: string, hint: string = HINT): TidemarkError {
  return new TidemarkError("CONFIG", message, { hint });
}

/** For what product users will have and this version does not. */
export function notAvailable(where: string, what: string): TidemarkError {
  return configError(`${where}: ${what} is not available in this version of Tidemark`, `Remove ${what} for now.`);
}
