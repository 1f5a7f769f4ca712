import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import ssh2, { type AnyAuthMethod, type ParsedKey } from "ssh2";

import type { SftpPlace } from "../config/config.ts";
import { errnoOf, TidemarkError } from "../runtime/errors.ts";
import { storeLocation } from "./store-location.ts";

const USUAL_KEYS = ["id_ed25519", "id_ecdsa", "id_rsa"];

export function loginName({ user }: SftpPlace): string {
  return user ?? os.userInfo().username;
}

/**
 * What to log in with, in the order of trying: the password of the environment, then the configured key, or else what
 * ssh-agent and ~/.ssh have. @throws STORE_DENIED when the configured key cannot be used
 */
export function loginMethods(place: SftpPlace): AnyAuthMethod[] {
  const username = loginName(place);
  const password = process.env["TIDEMARK_SFTP_PASSWORD"];
  const agent = process.env["SSH_AUTH_SOCK"];
  const keys = place.keyFile === undefined ? usualKeys() : [configuredKey(place, place.keyFile)];
  const asked = password === undefined ? [] : [{ type: "password", username, password } as const];
  const agents =
    agent === undefined || place.keyFile !== undefined ? [] : [{ type: "agent", username, agent } as const];
  return [...asked, ...agents, ...keys.map((key) => ({ type: "publickey", username, key }) as const)];
}

function configuredKey(place: SftpPlace, file: string): ParsedKey {
  const key = readKey(file);
  if (!(key instanceof Error)) return key;
  throw new TidemarkError("STORE_DENIED", `${storeLocation(place)}: the key ${file} cannot be used: ${key.message}`, {
    hint: "Correct keyFile or the file's permissions; the passphrase of an encrypted key goes into TIDEMARK_SFTP_PASSPHRASE.",
    cause: key,
  });
}

/** One that needs a passphrase which is not given may be with the agent. */
function usualKeys(): ParsedKey[] {
  const files = USUAL_KEYS.map((name) => path.join(os.homedir(), ".ssh", name));
  return files.map(readKey).filter((key): key is ParsedKey => !(key instanceof Error));
}

function readKey(file: string): ParsedKey | Error {
  try {
    const key = ssh2.utils.parseKey(fs.readFileSync(file), process.env["TIDEMARK_SFTP_PASSPHRASE"]);
    if (key instanceof Error) return key;
    return key.isPrivateKey() ? key : new Error("it is a public key");
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return error as Error;
  }
}
