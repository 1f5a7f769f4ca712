import type { Logger } from "pino";

import type { DataKey, OwnKey } from "../keys/data-key.ts";
import { forgetKeys, type KeptKeys, keysFor, readKeptKeys, rotateKeys } from "../keys/kept-keys.ts";
import { TidemarkError } from "../runtime/errors.ts";

export interface CaptureKeysOptions {
  /** Of the agent's state. */
  readonly directory: string;
  /** Public keys; none: nothing is encrypted. */
  readonly recipients: readonly string[];
  readonly logger: Logger;
}

/** The keys with which a capture encrypts. It can do so, and read back what it wrote last, without an identity. */
export class CaptureKeys {
  readonly #options: CaptureKeysOptions;
  /** Older keys that were kept when this agent started. */
  #previous: readonly DataKey[] = [];

  constructor(options: CaptureKeysOptions) {
    this.#options = options;
  }

  /** Undefined: what is captured is not encrypted. @throws CONFIG, KEY_DAMAGED */
  async open(): Promise<OwnKey | undefined> {
    const { directory, recipients, logger } = this.#options;
    const before = readKeptKeys(directory);
    this.#previous = before?.previous ?? [];
    if (recipients.length > 0) return ownKey(await keysFor(directory, recipients));
    if (before) logger.warn("the log was encrypted until now, and is not any more: there are no recipients");
    return undefined;
  }

  /**
   * Keys of the past leave this host when a start did not need them (`used`) to read back the log's tail. Those that were
   * replaced just now stay until the next start.
   */
  forgetUnused(used: ReadonlySet<string> = new Set()): void {
    const unneeded = this.#previous.filter(({ id }) => !used.has(id));
    if (unneeded.length > 0) forgetKeys(this.#options.directory, unneeded);
  }

  /** @throws NOT_ENCRYPTED */
  async rotate(): Promise<OwnKey> {
    const { directory, recipients } = this.#options;
    if (recipients.length > 0) return ownKey(await rotateKeys(directory, recipients));
    throw new TidemarkError("NOT_ENCRYPTED", "this set is not encrypted: there is no key to rotate", {
      hint: "List public keys as recipients: under encryption: in tidemark.yml and start the agent again.",
    });
  }
}

function ownKey({ current, wrapped }: KeptKeys): OwnKey {
  return { key: current, wrapped };
}
