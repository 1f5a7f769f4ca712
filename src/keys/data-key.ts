import { randomBytes } from "node:crypto";

import { damagedKey, type Identities } from "./identities.ts";
import { wrapForRecipients } from "./recipients.ts";

const KEY_BYTES = 32;
const KEY_ID_BYTES = 16;

/** With what a log or a repository is encrypted from some point on. Never shown, never logged. */
export interface DataKey {
  /** Hexadecimal, 16 bytes; it is no secret. */
  readonly id: string;
  /** AES-256. */
  readonly dataKey: Uint8Array;
  /** Names content, see tree/content-id.ts; stays the same when the data key changes. */
  readonly nameKey: Uint8Array;
}

/** A key as it may be seen by anybody. */
export interface WrappedKey {
  readonly id: string;
  /** An age file that holds the data key, then the chunk-name key. */
  readonly wrapped: Uint8Array;
  readonly recipients: readonly string[];
}

/** A key, and how it is told to those who read. */
export interface OwnKey {
  readonly key: DataKey;
  readonly wrapped: WrappedKey;
}

/** `nameKey`: the one that is in use already. */
export function makeDataKey(nameKey: Uint8Array = randomBytes(KEY_BYTES)): DataKey {
  return { id: randomBytes(KEY_ID_BYTES).toString("hex"), dataKey: randomBytes(KEY_BYTES), nameKey };
}

/** @throws CONFIG when a recipient is none */
export async function wrapKey(key: DataKey, recipients: readonly string[]): Promise<WrappedKey> {
  const content = Buffer.concat([key.dataKey, key.nameKey]);
  return { id: key.id, wrapped: await wrapForRecipients(content, recipients), recipients };
}

/** `what`: for messages, such as `the log embedded:/srv/log`. @throws KEY_MISSING, KEY_WRONG, KEY_DAMAGED */
export async function unwrapKey(wrapped: WrappedKey, identities: Identities, what: string): Promise<DataKey> {
  const content = await identities.open(wrapped.wrapped, { what, recipients: wrapped.recipients });
  if (content.length !== 2 * KEY_BYTES)
    throw damagedKey(what, `there are ${content.length} bytes in it, not ${2 * KEY_BYTES}`);
  return {
    id: wrapped.id,
    dataKey: Buffer.from(content.slice(0, KEY_BYTES)),
    nameKey: Buffer.from(content.slice(KEY_BYTES)),
  };
}
