import { distance } from "fastest-levenshtein";

/** The known name somebody most likely meant; undefined when none is near. */
export function nearestName(given: string, known: readonly string[]): string | undefined {
  const lower = given.toLowerCase();
  const ranked = known
    .map((name) => ({ name, apart: distance(lower, name.toLowerCase()) }))
    .toSorted((a, b) => a.apart - b.apart);
  const best = ranked[0];
  return best && best.apart <= Math.max(2, Math.floor(best.name.length * 0.4)) ? best.name : undefined;
}
