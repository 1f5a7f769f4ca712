import fs from "node:fs";

import type { EncryptionConfig } from "../config/config.ts";
import { requireRecipients } from "../keys/recipients.ts";
import type { ChangeLog } from "../log/change-log.ts";
import { keyInUse, requireKeys } from "../log/open-record.ts";
import { errnoOf } from "../runtime/errors.ts";
import { type Finding, look, ok, warn } from "./finding.ts";

const OTHERS = 0o077;

/** What is configured: whether public keys are some, and who may read the private ones. */
export async function encryptionFindings({ recipients, identity }: EncryptionConfig): Promise<Finding[]> {
  const findings: Finding[] = [];
  if (recipients.length > 0) {
    const people = recipients.length === 1 ? "one recipient" : `${recipients.length} recipients`;
    findings.push(await look("ENCRYPTION", `encrypted for ${people}`, () => requireRecipients(recipients)));
    if (recipients.length === 1) findings.push(onlyOne());
  }
  if (identity?.kind === "file") findings.push(...identityFile(identity.path));
  return findings;
}

/** Whether this host can read the log, where it has to. */
export async function keyFindings(log: ChangeLog, { mustRead }: { readonly mustRead: boolean }): Promise<Finding[]> {
  if (!mustRead) return [];
  const found = await look("KEY", "the log's key opens with the identity of this host", () => requireKeys(log));
  return found.severity === "ok" && (await keyInUse(log)) === undefined ? [] : [found];
}

function onlyOne(): Finding {
  return warn(
    "ENCRYPTION_ONE",
    "there is one recipient only: when its identity is lost nobody can read the log any more",
    "Make a second identity, keep it in a safe place, and list its public key as well.",
  );
}

/** One that is not there is no fault of a primary, which needs none. */
function identityFile(file: string): Finding[] {
  try {
    if ((fs.statSync(file).mode & OTHERS) === 0) return [ok("IDENTITY", `${file} is for its owner alone`)];
    return [warn("IDENTITY_OPEN", `${file} can be read by others than its owner`, `Run: chmod 600 ${file}`)];
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    return [warn("IDENTITY", `${file} cannot be looked at (${errnoOf(error) ?? "unknown"})`, "Check its path.")];
  }
}
