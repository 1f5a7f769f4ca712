import { type DataKey, makeDataKey, type OwnKey, unwrapKey, wrapKey } from "../../keys/data-key.ts";
import type { Identities } from "../../keys/identities.ts";
import type { Clock } from "../../runtime/clock.ts";
import { hasCode, TidemarkError } from "../../runtime/errors.ts";
import type { ObjectStore } from "../object-store.ts";
import { newestOfEach, putKeyObject, readKeyObjects, type StoredKey } from "./key-object.ts";

export interface RepositoryKeysOptions {
  readonly store: ObjectStore;
  readonly identities: Identities;
  readonly clock: Clock;
  /** Keys that this host has anyway, without an identity. */
  readonly kept?: (() => readonly DataKey[]) | undefined;
}

/** The data keys of a repository: objects under `keys/`, opened when they are needed. */
export class RepositoryKeys {
  readonly #options: RepositoryKeysOptions;
  readonly #open = new Map<string, DataKey>();
  #objects: readonly StoredKey[] = [];

  private constructor(options: RepositoryKeysOptions) {
    this.#options = options;
  }

  /** Reads what is there; nothing is opened yet. */
  static async read(options: RepositoryKeysOptions, signal: AbortSignal): Promise<RepositoryKeys> {
    const keys = new RepositoryKeys(options);
    await keys.refresh(signal);
    return keys;
  }

  async refresh(signal: AbortSignal): Promise<void> {
    this.#objects = await readKeyObjects(this.#options.store, signal);
  }

  /** The newest wrapping of each, the key in use last. */
  get all(): readonly StoredKey[] {
    return newestOfEach(this.#objects);
  }

  /** The one with which what comes is encrypted. @throws KEY_MISSING, KEY_WRONG, KEY_DAMAGED, OBJECT_MISSING */
  async inUse(): Promise<DataKey> {
    const newest = this.all.at(-1);
    if (!newest) throw this.#noKey("it is encrypted, and there is no key in it");
    return this.open(newest.id);
  }

  /** @throws as `inUse` */
  async open(id: string): Promise<DataKey> {
    const known = this.#open.get(id) ?? this.#options.kept?.().find((key) => key.id === id);
    const key = known ?? (await this.#unwrap(id));
    this.#open.set(id, key);
    return key;
  }

  /** A key that is in use elsewhere, for what comes here; the one in use already is left alone. */
  async adopt({ key, wrapped }: OwnKey, signal: AbortSignal): Promise<void> {
    this.#open.set(key.id, key);
    if (this.#objects.some(({ id }) => id === key.id)) return;
    const nowMs = this.#later();
    await putKeyObject(this.#options.store, { ...wrapped, createdMs: nowMs, wrappedMs: nowMs }, signal);
    await this.refresh(signal);
  }

  /** A new key for what comes, for those who can open the one in use. Content keeps its names. Returns its id. */
  async rotate(signal: AbortSignal): Promise<string> {
    const { nameKey } = await this.inUse();
    const key = makeDataKey(nameKey);
    await this.adopt({ key, wrapped: await wrapKey(key, this.recipients) }, signal);
    return key.id;
  }

  /** Who can open the key in use. */
  get recipients(): readonly string[] {
    return this.all.at(-1)?.recipients ?? [];
  }

  /** Wraps every key for one more. @throws CONFIG when it is no public key, and as `inUse` */
  async add(recipient: string, signal: AbortSignal): Promise<void> {
    await this.#rewrap((before) => (before.includes(recipient) ? before : [...before, recipient]), signal);
  }

  /**
   * Wraps every key for the others, then removes what was wrapped for this one. What it has opened before it knows.
   * @throws USAGE when nobody would be left, or it is none of them; OBJECT_LOCKED when the store keeps what should go
   */
  async remove(recipient: string, signal: AbortSignal): Promise<void> {
    const { location } = this.#options.store;
    const hint = "`tidemark key list` shows the recipients.";
    if (!this.#objects.some(({ recipients }) => recipients.includes(recipient)))
      throw new TidemarkError("USAGE", `${location}: ${recipient} is none of its recipients`, { hint });
    if (this.all.some(({ recipients }) => recipients.every((one) => one === recipient)))
      throw new TidemarkError(
        "USAGE",
        `${location}: ${recipient} is the last recipient: nobody could read it any more`,
        {
          hint: "Add another one first with `tidemark key add`.",
        },
      );
    await this.#rewrap((before) => before.filter((one) => one !== recipient), signal);
    await this.#removeWhere(({ recipients }) => recipients.includes(recipient), signal);
  }

  /** New objects first, so that every key can be opened by somebody at every moment. */
  async #rewrap(change: (before: readonly string[]) => readonly string[], signal: AbortSignal): Promise<void> {
    // All are opened before the first is written: half of it would help nobody.
    const keys = await Promise.all(this.all.map(async (stored) => ({ stored, key: await this.open(stored.id) })));
    const wrappedMs = this.#later();
    for (const { stored, key } of keys) {
      const recipients = change(stored.recipients);
      if (recipients.length === stored.recipients.length) continue;
      const wrapped = await wrapKey(key, recipients);
      await putKeyObject(this.#options.store, { ...wrapped, createdMs: stored.createdMs, wrappedMs }, signal);
    }
    await this.refresh(signal);
  }

  async #removeWhere(isOld: (key: StoredKey) => boolean, signal: AbortSignal): Promise<void> {
    const newest = new Set(this.all.map(({ name }) => name));
    for (const key of this.#objects) {
      if (isOld(key) && !newest.has(key.name)) await this.#options.store.remove(key.name, signal);
    }
    await this.refresh(signal);
  }

  /** Any wrapping will do: the newest may be damaged, or be written for others. */
  async #unwrap(id: string): Promise<DataKey> {
    const { identities, store } = this.#options;
    const wrappings = this.#objects
      .filter((one) => one.id === id)
      .sort((one, other) => other.wrappedMs - one.wrappedMs);
    let failure: unknown = this.#noKey(`its key ${id} is not there`);
    for (const [index, wrapped] of wrappings.entries()) {
      try {
        return await unwrapKey(wrapped, identities, `the repository ${store.location}`);
      } catch (error) {
        if (index === 0) failure = error;
        if (!hasCode(error, "KEY_WRONG", "KEY_DAMAGED")) throw error;
      }
    }
    throw failure;
  }

  /** After every other moment here, whatever this clock says. */
  #later(): number {
    const last = this.#objects.map(({ createdMs, wrappedMs }) => Math.max(createdMs, wrappedMs));
    return Math.max(Math.floor(this.#options.clock.now()), ...last.map((ms) => ms + 1));
  }

  #noKey(evidence: string): TidemarkError {
    return new TidemarkError("OBJECT_MISSING", `${this.#options.store.location}: ${evidence}`, {
      hint: "Somebody removed an object below keys/. Bring it back from another copy: without it nothing can be read.",
    });
  }
}
