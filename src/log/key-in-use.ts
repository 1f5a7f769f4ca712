import type { PackedBody } from "../event/codec.ts";
import type { EventBody, KeyAnnounced } from "../event/kinds.ts";
import type { Offset } from "../event/positions.ts";
import { isEncryptable, Nonces, type RecordEncryption } from "../event/record-cipher.ts";
import type { DataKey, OwnKey } from "../keys/data-key.ts";

/** So much, or so long after its last announcement a key is announced again: a log can be trimmed up to the newest. */
const ANNOUNCE_EVERY_BYTES = 64 * 1024 * 1024;
const ANNOUNCE_EVERY_MS = 10 * 60 * 1000;

/** The last announcement, and what was written since. */
interface Announced {
  readonly encryption: RecordEncryption | undefined;
  readonly atMs: number;
  readonly bytes: number;
}

interface EncodedRecord {
  readonly kind: EventBody["kind"];
  readonly offset: Offset;
  readonly timeMs: number;
  readonly bytes: number;
}

/** The key of a writer. What is encoded counts only when it is kept: encoding can fail half way. */
export class KeyInUse {
  readonly announcement: KeyAnnounced;
  readonly #key: DataKey;
  readonly #nonces = new Nonces();
  #announced: Announced = { encryption: undefined, atMs: 0, bytes: 0 };

  constructor({ key, wrapped }: OwnKey) {
    this.#key = key;
    const { wrapped: file, recipients } = wrapped;
    this.announcement = { kind: "key", id: Buffer.from(key.id, "hex"), wrapped: file, recipients };
  }

  get nameKey(): Uint8Array {
    return this.#key.nameKey;
  }

  /** Whether the key is to be announced before these. A log in which nothing happens is not filled with announcements. */
  isDue(nowMs: number, bodies: readonly (EventBody | PackedBody)[]): boolean {
    const { encryption, atMs, bytes } = this.#announced;
    if (!bodies.some(({ kind }) => isEncryptable(kind))) return false;
    return !encryption || bytes >= ANNOUNCE_EVERY_BYTES || nowMs - atMs >= ANNOUNCE_EVERY_MS;
  }

  get announced(): Announced {
    return this.#announced;
  }

  /** What is known when a record was encoded with what was known before. Nothing changes until it is kept. */
  after(before: Announced, { kind, offset, timeMs, bytes }: EncodedRecord): Announced {
    if (kind !== "key") return { ...before, bytes: before.bytes + bytes };
    const nextNonce = (): Uint8Array => this.#nonces.next();
    return { encryption: { dataKey: this.#key.dataKey, keyOffset: offset, nextNonce }, atMs: timeMs, bytes: 0 };
  }

  keep(announced: Announced): void {
    this.#announced = announced;
  }
}
