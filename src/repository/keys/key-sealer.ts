import { RecordProblem } from "../../event/record-error.ts";
import { Nonces } from "../../event/record-cipher.ts";
import { bytesOf } from "../../event/tree-path.ts";
import type { DataKey } from "../../keys/data-key.ts";
import { contentId } from "../../tree/content-id.ts";
import { decodeEnvelopeHead, encodeEnvelope, type OpenedWith } from "../envelope.ts";
import type { RepositorySealer, SealedAs } from "../sealer.ts";
import type { RepositoryKeys } from "./repository-keys.ts";

/** Encrypts under the key in use when it was opened, and opens what is under any. */
export class KeySealer implements RepositorySealer {
  readonly encrypted = true;
  readonly #keys: RepositoryKeys;
  readonly #inUse: DataKey;
  readonly #id: Uint8Array;
  readonly #nonces = new Nonces();
  readonly #signal: AbortSignal;

  private constructor(keys: RepositoryKeys, inUse: DataKey, signal: AbortSignal) {
    this.#keys = keys;
    this.#inUse = inUse;
    this.#id = Buffer.from(inUse.id, "hex");
    this.#signal = signal;
  }

  /** @throws KEY_MISSING, KEY_WRONG, KEY_DAMAGED: before anything else of the repository is read */
  static async open(keys: RepositoryKeys, signal: AbortSignal): Promise<KeySealer> {
    return new KeySealer(keys, await keys.inUse(), signal);
  }

  seal(as: SealedAs, raw: Uint8Array): Uint8Array {
    const { dataKey } = this.#inUse;
    return encodeEnvelope(as, raw, { id: this.#id, dataKey, nonce: this.#nonces.next() });
  }

  async opening(as: SealedAs, stored: Uint8Array): Promise<OpenedWith> {
    const head = decodeEnvelopeHead(stored, as);
    if (!head.keyId) throw new RecordProblem("it is not encrypted, unlike the repository");
    const { dataKey } = await this.#keyOf(Buffer.from(head.keyId).toString("hex"));
    return { head, dataKey };
  }

  blobId(data: Uint8Array): Uint8Array {
    return bytesOf(contentId(data, this.#inUse.nameKey));
  }

  /** Somebody may have begun another one meanwhile. */
  async #keyOf(id: string): Promise<DataKey> {
    if (id === this.#inUse.id) return this.#inUse;
    if (!this.#keys.all.some((key) => key.id === id)) await this.#keys.refresh(this.#signal);
    return this.#keys.open(id);
  }
}
