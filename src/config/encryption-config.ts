import path from "node:path";

import { MAX_RECIPIENTS, RECIPIENT } from "../event/field-rules.ts";
import type { EncryptionConfig, IdentitySource } from "./config.ts";
import { configError } from "./config-error.ts";
import type { ConfigFile, Environment } from "./config-file.ts";

const VARIABLE = "TIDEMARK_IDENTITY";
const PRIVATE_KEY = /^\s*AGE-SECRET-KEY-/i;

/** `encryption:` and the environment in one. The environment goes before the file. */
export function encryptionConfig(file: ConfigFile | undefined, environment: Environment): EncryptionConfig {
  const given = file?.values.encryption;
  const recipients = given?.recipients?.map((one, index) =>
    requireRecipient(one.trim(), file?.where(["encryption", "recipients", index]) ?? ""),
  );
  if (recipients?.length === 0 || (recipients?.length ?? 0) > MAX_RECIPIENTS) {
    throw configError(`${file?.where(["encryption", "recipients"]) ?? ""}: must be 1 to ${MAX_RECIPIENTS} public keys`);
  }
  return {
    recipients: [...new Set(recipients)],
    identity: fromEnvironment(environment) ?? fromFile(file),
    asked: given !== undefined,
  };
}

/** What writes must encrypt when encryption is configured, and not only know how to read. @throws CONFIG */
export function requireRecipientsToWrite({ asked, recipients }: EncryptionConfig, file: ConfigFile | undefined): void {
  if (!asked || recipients.length > 0) return;
  throw configError(
    `${file?.where(["encryption"]) ?? "encryption"}: there are no recipients, so nothing would be encrypted`,
    "List public keys (age1…) as recipients:, or remove encryption:.",
  );
}

/** A private key in a variable is never shown, nor is it one in the wrong place. */
function requireRecipient(text: string, where: string): string {
  if (PRIVATE_KEY.test(text)) {
    throw configError(
      `${where}: this is a private key; recipients are public keys`,
      "Write what `age-keygen -y IDENTITY_FILE` prints, and make a new identity: this one has been where it must not be.",
    );
  }
  if (RECIPIENT.test(text)) return text;
  throw configError(
    `${where}: ${JSON.stringify(text.slice(0, 80))} is no public key of age`,
    "Recipients begin with age1; `age-keygen -o identity.txt` makes an identity and prints its public key.",
  );
}

function fromEnvironment(environment: Environment): IdentitySource | undefined {
  const text = environment[VARIABLE]?.trim();
  if (!text) return undefined;
  return PRIVATE_KEY.test(text)
    ? { kind: "text", text, variable: VARIABLE }
    : { kind: "file", path: path.resolve(text) };
}

function fromFile(file: ConfigFile | undefined): IdentitySource | undefined {
  const given = file?.values.encryption?.identity;
  if (given === undefined || !file) return undefined;
  if (PRIVATE_KEY.test(given)) {
    throw configError(
      `${file.where(["encryption", "identity"])}: this is a private key where the path of a file is expected`,
      `Write it into a file that only Tidemark may read, or give it in the environment variable ${VARIABLE}.`,
    );
  }
  return { kind: "file", path: path.resolve(path.dirname(file.path), given) };
}
