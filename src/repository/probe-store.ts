import { randomUUID } from "node:crypto";

import type { Clock } from "../runtime/clock.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { PROBE_PREFIX } from "./object-names.ts";
import type { ObjectStore } from "./object-store.ts";

/**
 * Puts an object of its own, reads, lists and removes it.
 * @returns by how much the store's clock is ahead of ours; undefined where it does not tell
 * @throws what the store throws; OBJECT_CORRUPT when it gives other bytes than it got
 */
export async function probeStore(
  store: ObjectStore,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<number | undefined> {
  const name = `${PROBE_PREFIX}${randomUUID()}`;
  const data = Buffer.from(name);
  await store.put(name, data, signal);
  const putMs = clock.now();
  try {
    if (!data.equals(await store.get(name, signal))) throw broken(store, "gives other bytes than it got");
    const [listed] = await Array.fromAsync(store.list(name, signal));
    if (listed?.name !== name) throw broken(store, "does not list what was put");
    const modifiedMs = (await store.head(name, signal))?.modifiedMs;
    return modifiedMs === undefined ? undefined : modifiedMs - putMs;
  } finally {
    await store.remove(name, signal);
  }
}

function broken({ location }: ObjectStore, what: string): TidemarkError {
  return new TidemarkError("OBJECT_CORRUPT", `${location} ${what}`, {
    hint: "Do not keep a repository there before that is cleared up.",
  });
}
