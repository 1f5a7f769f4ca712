import path from "node:path";
import { z } from "zod";

import { crashPoint } from "../runtime/crash-point.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { readIfThere, replaceFile } from "../runtime/replace-file.ts";
import { type DataKey, makeDataKey, type WrappedKey, wrapKey } from "./data-key.ts";

const FILE = "keys.json";

/** What a primary keeps of its keys, so that it goes on after a restart although it has no identity. */
export interface KeptKeys {
  readonly current: DataKey;
  /** The current key as it is announced. */
  readonly wrapped: WrappedKey;
  /** The keys before it, for as long as what this agent still has to read back may be encrypted with them. */
  readonly previous: readonly DataKey[];
}

const bytes = (length: number) =>
  z
    .base64()
    .transform((text) => Buffer.from(text, "base64"))
    .refine((buffer) => buffer.length === length);
const id = z.string().regex(/^[0-9a-f]{32}$/);
const stored = z.object({
  format: z.literal(1),
  nameKey: bytes(32),
  current: z.object({ id, dataKey: bytes(32) }),
  wrapped: z.base64(),
  recipients: z.array(z.string()).min(1),
  previous: z.array(z.object({ id, dataKey: bytes(32) })),
});

/** Undefined: there are none. @throws KEY_DAMAGED */
export function readKeptKeys(directory: string): KeptKeys | undefined {
  const text = readIfThere(path.join(directory, FILE));
  if (text === undefined) return undefined;
  const parsed = stored.safeParse(parseJson(text));
  if (!parsed.success) throw damaged(directory);
  const { nameKey, current, wrapped, recipients, previous } = parsed.data;
  return {
    current: { ...current, nameKey },
    wrapped: { id: current.id, wrapped: Buffer.from(wrapped, "base64"), recipients },
    previous: previous.map((key) => ({ ...key, nameKey })),
  };
}

/**
 * The keys to write with. The first call makes them; other recipients than the last time make a new data key, unless some
 * were only added: those may read what the others may. @throws CONFIG when a recipient is none, KEY_DAMAGED
 */
export async function keysFor(directory: string, recipients: readonly string[]): Promise<KeptKeys> {
  const kept = readKeptKeys(directory);
  if (!kept) return store(directory, await keysWith(makeDataKey(), { recipients, previous: [] }));
  const { current, wrapped, previous } = kept;
  const removed = wrapped.recipients.some((one) => !recipients.includes(one));
  if (removed) return rotated(directory, kept, recipients);
  if (recipients.length === wrapped.recipients.length) return kept;
  return store(directory, await keysWith(current, { recipients, previous }));
}

/** A new data key for what comes. @throws as keysFor */
export async function rotateKeys(directory: string, recipients: readonly string[]): Promise<KeptKeys> {
  return rotated(directory, await keysFor(directory, recipients), recipients);
}

/** Keys of the past that nobody needed to read anything back leave this host. */
export function forgetKeys(directory: string, unneeded: readonly DataKey[]): void {
  const kept = readKeptKeys(directory);
  const previous = kept?.previous.filter((key) => !unneeded.some((one) => one.id === key.id)) ?? [];
  if (kept && previous.length < kept.previous.length) store(directory, { ...kept, previous });
}

async function rotated(directory: string, kept: KeptKeys, recipients: readonly string[]): Promise<KeptKeys> {
  const previous = [...kept.previous, kept.current];
  return store(directory, await keysWith(makeDataKey(kept.current.nameKey), { recipients, previous }));
}

async function keysWith(
  current: DataKey,
  { recipients, previous }: { recipients: readonly string[]; previous: readonly DataKey[] },
): Promise<KeptKeys> {
  return { current, wrapped: await wrapKey(current, recipients), previous };
}

/** Before the log hears of a key it is stored: what is encrypted with it must be readable after a power cut. */
function store(directory: string, kept: KeptKeys): KeptKeys {
  const plain = ({ id: name, dataKey }: DataKey): object => ({ id: name, dataKey: base64(dataKey) });
  const content = {
    format: 1,
    nameKey: base64(kept.current.nameKey),
    current: plain(kept.current),
    wrapped: base64(kept.wrapped.wrapped),
    recipients: kept.wrapped.recipients,
    previous: kept.previous.map(plain),
  };
  replaceFile(path.join(directory, FILE), `${JSON.stringify(content, null, 2)}\n`, { mode: 0o600 });
  crashPoint("keys: stored");
  return kept;
}

function base64(data: Uint8Array): string {
  return Buffer.from(data).toString("base64");
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function damaged(directory: string): TidemarkError {
  const file = path.join(directory, FILE);
  return new TidemarkError("KEY_DAMAGED", `${file} is not as this agent wrote it`, {
    hint: "Bring it back from a copy. Without it, move the agent's state directory aside: the next start sends a full copy.",
  });
}
