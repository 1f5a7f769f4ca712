import fs from "node:fs";
import path from "node:path";

import { syncDirectory } from "../runtime/durable-directory.ts";
import { readIfThere, replaceFile } from "../runtime/replace-file.ts";

const OFFER_FILE = "handover.json";

/** That this primary was about to hand over, or has: as long as it is on disk the log alone knows who the primary is. */
export interface OfferRecord {
  readonly set: string;
  /** To whom, for people. */
  readonly to: string;
  /** RFC 3339. */
  readonly at: string;
}

export function offerFile(state: string): string {
  return path.join(state, OFFER_FILE);
}

/** Survives a power cut when it returns. */
export function writeOffer(state: string, record: OfferRecord): void {
  replaceFile(offerFile(state), `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
}

export function removeOffer(state: string): void {
  fs.rmSync(offerFile(state), { force: true });
  syncDirectory(state);
}

/** Undefined: none is open. One that cannot be read is open. */
export function readOffer(state: string): OfferRecord | undefined {
  const text = readIfThere(offerFile(state));
  if (text === undefined) return undefined;
  const unknown = { set: "", to: "another host", at: "" };
  try {
    return { ...unknown, ...(JSON.parse(text) as Partial<OfferRecord>) };
  } catch {
    return unknown;
  }
}
