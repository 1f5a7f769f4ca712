import type { OwnKey } from "../../keys/data-key.ts";
import { TidemarkError } from "../../runtime/errors.ts";
import type { ObjectStore } from "../object-store.ts";
import type { RepositorySealing, SealingOptions as RepositorySealingOptions } from "../open-repository.ts";
import { plainSealer } from "../plain-sealer.ts";
import type { RepositoryConfig } from "../repository.ts";
import type { RepositorySealer } from "../sealer.ts";
import { KeySealer } from "./key-sealer.ts";
import { RepositoryKeys, type RepositoryKeysOptions } from "./repository-keys.ts";

export interface SealingOptions extends Omit<RepositoryKeysOptions, "store"> {
  /**
   * Of whoever writes: the key with which the log is encrypted. The repository takes it over for what comes, so both are
   * opened by the same identities, and a host that has the key needs none. Undefined: the log is not encrypted, or this
   * one only reads.
   */
  readonly logKey?: OwnKey | undefined;
}

/** How a repository gets its sealer: by what its config says, and the keys in it. */
export class Sealing implements RepositorySealing {
  readonly #options: SealingOptions;

  constructor(options: SealingOptions) {
    this.#options = options;
  }

  /** Whether a repository that is made now is encrypted. */
  get encrypt(): boolean {
    return this.#options.logKey !== undefined;
  }

  /** @throws NOT_ENCRYPTED (it would hold in the clear what the log encrypts), KEY_MISSING, KEY_WRONG, KEY_DAMAGED */
  async open(
    store: ObjectStore,
    config: RepositoryConfig,
    { mode, signal }: RepositorySealingOptions,
  ): Promise<RepositorySealer> {
    const { logKey, ...options } = this.#options;
    if (!config.encrypted && logKey && mode === "write") throw notEncrypted(store);
    if (!config.encrypted) return plainSealer;
    const keys = await RepositoryKeys.read({ ...options, store }, signal);
    if (logKey && mode === "write") await keys.adopt(logKey, signal);
    return KeySealer.open(keys, signal);
  }
}

function notEncrypted(store: ObjectStore): TidemarkError {
  return new TidemarkError("NOT_ENCRYPTED", `${store.location} is not encrypted, and the log of this set is`, {
    hint: "Give the set another, empty place as its repository; this one stays as it is, with what it holds in the clear.",
  });
}
