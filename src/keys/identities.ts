import fs from "node:fs";

import type { IdentitySource } from "../config/config.ts";
import { errnoOf, TidemarkError } from "../runtime/errors.ts";

/** What is to be opened. */
export interface Locked {
  /** For messages, such as `the log embedded:/srv/log`. */
  readonly what: string;
  /** Whose identities open it. */
  readonly recipients: readonly string[];
}

const IDENTITY = /^AGE-SECRET-KEY-(PQ-)?1[A-Z0-9]+$/;
/** More recipients are counted, not listed. */
const SHOWN_RECIPIENTS = 4;

/** The private keys that this host was given. They are read when the first of them is needed, and never shown. */
export class Identities {
  readonly #source: IdentitySource | undefined;

  constructor(source: IdentitySource | undefined) {
    this.#source = source;
  }

  /** The content of an age file. @throws KEY_MISSING, KEY_WRONG, KEY_DAMAGED */
  async open(wrapped: Uint8Array, locked: Locked): Promise<Uint8Array> {
    const keys = this.#read(locked);
    const { Decrypter } = await import("age-encryption");
    const decrypter = new Decrypter();
    try {
      for (const key of keys) decrypter.addIdentity(key);
    } catch {
      throw this.#unusable(`an identity in ${this.#where} has a typing error`, locked);
    }
    try {
      return await decrypter.decrypt(wrapped);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      if (message.startsWith("no identity matched")) throw await this.#wrong(keys, locked);
      throw damagedKey(locked.what, message, error);
    }
  }

  get #where(): string {
    if (!this.#source) return "nothing";
    return this.#source.kind === "file" ? this.#source.path : this.#source.variable;
  }

  #read(locked: Locked): readonly string[] {
    const lines = this.#text(locked)
      .split(/\r?\n/)
      .map((line, index) => ({ text: line.trim(), number: index + 1 }))
      .filter(({ text }) => text !== "" && !text.startsWith("#"));
    if (lines[0]?.text.startsWith("age-encryption.org/") || lines[0]?.text.startsWith("-----BEGIN AGE"))
      throw this.#unusable(`${this.#where} is an identity behind a passphrase, which Tidemark cannot ask for`, locked);
    const strange = lines.find(({ text }) => !IDENTITY.test(text));
    if (strange) throw this.#unusable(`line ${strange.number} of ${this.#where} is no age identity`, locked);
    if (lines.length === 0) throw this.#unusable(`there is no identity in ${this.#where}`, locked);
    return lines.map(({ text }) => text);
  }

  #text(locked: Locked): string {
    if (!this.#source) throw missing(`${locked.what} is encrypted, and no identity is given to open it`, locked);
    if (this.#source.kind === "text") return this.#source.text;
    const { path } = this.#source;
    try {
      return fs.readFileSync(path, "utf8");
    } catch (error) {
      const evidence = `its identity ${path} cannot be read (${errnoOf(error) ?? "unknown"})`;
      throw missing(`${locked.what} is encrypted, and ${evidence}`, locked);
    }
  }

  #unusable(evidence: string, locked: Locked): TidemarkError {
    return new TidemarkError("KEY_WRONG", `${locked.what} is encrypted, and ${evidence}`, { hint: hintOf(locked) });
  }

  async #wrong(keys: readonly string[], locked: Locked): Promise<TidemarkError> {
    const { identityToRecipient } = await import("age-encryption");
    const tried = await Promise.all(keys.map(async (key) => identityToRecipient(key)));
    const shown = `the identity in ${this.#where} is that of ${listed(tried)}`;
    return new TidemarkError("KEY_WRONG", `${locked.what} is encrypted for others: ${shown}`, { hint: hintOf(locked) });
  }
}

function missing(message: string, locked: Locked): TidemarkError {
  return new TidemarkError("KEY_MISSING", message, { hint: hintOf(locked) });
}

function hintOf({ recipients }: Locked): string {
  return (
    `It opens with the identity of ${listed(recipients)}. Name its file with identity: under encryption: in tidemark.yml, ` +
    "or in the environment variable TIDEMARK_IDENTITY."
  );
}

/** Public keys, of which the long ones are cut: nobody copies them from a message. */
function listed(recipients: readonly string[]): string {
  const shown = recipients.slice(0, SHOWN_RECIPIENTS).map((one) => (one.length > 80 ? `${one.slice(0, 62)}…` : one));
  const more = recipients.length - shown.length;
  return more > 0 ? `${shown.join(", ")} or ${more} others` : shown.join(" or ");
}

export function damagedKey(what: string, evidence: string, cause?: unknown): TidemarkError {
  return new TidemarkError("KEY_DAMAGED", `the wrapped key of ${what} is damaged: ${evidence}`, {
    hint: "What was encrypted with it can be read only where the key is announced once more, or from another copy. Check the disk.",
    cause,
  });
}
