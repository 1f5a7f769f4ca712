import { decodeRecord } from "../event/codec.ts";
import type { KeyAnnounced } from "../event/kinds.ts";
import type { Offset } from "../event/positions.ts";
import { type DataKey, unwrapKey } from "../keys/data-key.ts";
import type { Identities } from "../keys/identities.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import type { ChangeLog } from "./change-log.ts";
import { newestKeyOffset } from "./key-offsets.ts";

export interface LogKeysOptions {
  readonly identities: Identities;
  /** Keys that this host has anyway, without an identity. Asked whenever one is needed that is not known yet. */
  readonly kept?: (() => readonly DataKey[]) | undefined;
}

/** The keys of one log, as far as they were needed: found where the log announces them, opened once. */
export class LogKeys {
  readonly #options: LogKeysOptions;
  readonly #byOffset = new Map<Offset, DataKey>();
  readonly #byId = new Map<string, DataKey>();
  #nameKeys: readonly Uint8Array[] = [];

  constructor(options: LogKeysOptions) {
    this.#options = options;
  }

  /** With which content is named, the newest first. */
  get nameKeys(): readonly Uint8Array[] {
    return this.#nameKeys;
  }

  /** Ids of the keys that were needed until now. */
  get used(): ReadonlySet<string> {
    return new Set(this.#byId.keys());
  }

  /** A key that this host made itself. */
  add(key: DataKey): void {
    this.#byId.set(key.id, key);
    if (this.#nameKeys.some((known) => Buffer.compare(known, key.nameKey) === 0)) return;
    this.#nameKeys = [key.nameKey, ...this.#nameKeys];
  }

  opened(at: Offset): DataKey | undefined {
    return this.#byOffset.get(at);
  }

  /** The key that is announced at `at`. @throws KEY_MISSING, KEY_WRONG, KEY_DAMAGED, LOG_GAP, LOG_CORRUPT */
  async open(log: ChangeLog, at: Offset): Promise<DataKey> {
    const announced = await announcementAt(log, at);
    const id = Buffer.from(announced.id).toString("hex");
    const key = this.#known(id) ?? (await this.#unwrap(log, announced, id));
    this.add(key);
    this.#byOffset.set(at, key);
    return key;
  }

  #known(id: string): DataKey | undefined {
    return this.#byId.get(id) ?? this.#options.kept?.().find((key) => key.id === id);
  }

  /** Recipients that were added later are in later announcements only, of the same key. */
  async #unwrap(log: ChangeLog, announced: KeyAnnounced, id: string): Promise<DataKey> {
    const { identities } = this.#options;
    const what = `the log ${log.location}`;
    try {
      return await unwrapKey({ ...announced, id }, identities, what);
    } catch (error) {
      if (!hasCode(error, "KEY_WRONG", "KEY_DAMAGED")) throw error;
      const at = await newestKeyOffset(log);
      const newest = at === undefined ? announced : await announcementAt(log, at);
      const isSame = Buffer.compare(newest.id, announced.id) === 0;
      if (!isSame || Buffer.compare(newest.wrapped, announced.wrapped) === 0) throw error;
      return unwrapKey({ ...newest, id }, identities, what);
    }
  }
}

/** @throws LOG_GAP, LOG_CORRUPT, RECORD_INVALID */
export async function announcementAt(log: ChangeLog, at: Offset): Promise<KeyAnnounced> {
  const record = await log.get(at);
  if (!record) throw keyGone(log, at);
  const { body } = decodeRecord(record);
  if (body.kind === "key") return body;
  throw new TidemarkError("LOG_CORRUPT", `${log.location}: offset ${at}: a key should be there, it is ${body.kind}`, {
    hint: "Check the disk of the log.",
  });
}

function keyGone(log: ChangeLog, at: Offset): TidemarkError {
  return new TidemarkError("LOG_GAP", `${log.location}: offset ${at}, which announced a key, was removed`, {
    hint: "Somebody purged the log by hand. What was encrypted with this key can be read from the repository only; reseed the standbys.",
  });
}
