import { type DecodedRecord, decodeRecord, decodeRecordHeader, keyOffsetIn, requireChecksum } from "../event/codec.ts";
import type { Offset } from "../event/positions.ts";
import type { OwnKey } from "../keys/data-key.ts";
import { Identities } from "../keys/identities.ts";
import { hasCode } from "../runtime/errors.ts";
import type { ChangeLog } from "./change-log.ts";
import { newestKeyOffset } from "./key-offsets.ts";
import { announcementAt, LogKeys } from "./log-keys.ts";

/** Decodes a record of a log, with its key when it needs one. @throws as decodeRecord, and as LogKeys.open */
export async function openRecord(log: ChangeLog, data: Uint8Array): Promise<DecodedRecord> {
  return decodeRecord(data, await dataKeyOf(log, data));
}

/** With what `data`, a record of the log, is encrypted; undefined when it is not. @throws as LogKeys.open */
export async function dataKeyOf(log: ChangeLog, data: Uint8Array): Promise<Uint8Array | undefined> {
  const at = keyOffsetIn(data);
  if (at === undefined) return undefined;
  const keys = keysOf(log);
  const opened = keys.opened(at);
  if (opened) return opened.dataKey;
  // A damaged record may name any offset.
  requireChecksum(data, decodeRecordHeader(data));
  return (await keys.open(log, at)).dataKey;
}

/**
 * Says at once what would be said at the first encrypted record, which may come late. Nothing to say of a log that is
 * empty, or not encrypted. @throws as LogKeys.open
 */
export async function requireKeys(log: ChangeLog): Promise<void> {
  await keyInUse(log);
}

/** With which the log is encrypted at its end, as it was announced last; undefined when it is not. @throws as LogKeys.open */
export async function keyInUse(log: ChangeLog): Promise<OwnKey | undefined> {
  const at = await newestKeyOffset(log);
  if (at === undefined) return undefined;
  const { wrapped, recipients } = await announcementAt(log, at);
  const key = await keysOf(log).open(log, at);
  return { key, wrapped: { id: key.id, wrapped, recipients } };
}

function keysOf(log: ChangeLog): LogKeys {
  return log.keys ?? new LogKeys({ identities: new Identities(undefined) });
}

/** Decodes records one after the other. */
export class RecordOpener {
  readonly #log: ChangeLog;
  readonly #sealed: boolean;
  /** Where keys are announced that cannot be opened here. */
  readonly #locked = new Set<Offset | undefined>();

  /** `sealed`: without their key records come with a body of this kind. */
  constructor(log: ChangeLog, { sealed = false }: { readonly sealed?: boolean }) {
    this.#log = log;
    this.#sealed = sealed;
  }

  async open(data: Uint8Array): Promise<DecodedRecord> {
    if (!this.#sealed) return openRecord(this.#log, data);
    const at = keyOffsetIn(data);
    if (this.#locked.has(at)) return decodeRecord(data);
    try {
      return await openRecord(this.#log, data);
    } catch (error) {
      if (!hasCode(error, "KEY_MISSING")) throw error;
      this.#locked.add(at);
      return decodeRecord(data);
    }
  }
}
