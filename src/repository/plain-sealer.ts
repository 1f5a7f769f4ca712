import { hash } from "node:crypto";

import { RecordProblem } from "../event/record-error.ts";
import { decodeEnvelopeHead, encodeEnvelope, openEnvelope } from "./envelope.ts";
import type { EnvelopeOpener, RepositorySealer, SealedAs } from "./sealer.ts";

/** Without a key: damage is found, nothing is hidden. */
export const plainSealer: RepositorySealer = {
  encrypted: false,
  seal: (as: SealedAs, raw: Uint8Array) => encodeEnvelope(as, raw),
  async open(as: SealedAs, stored: Uint8Array, run: EnvelopeOpener = openEnvelope): Promise<Uint8Array> {
    const head = decodeEnvelopeHead(stored, as);
    // Its config says that the repository is not encrypted.
    if (head.keyId) throw new RecordProblem("it is encrypted, unlike the repository");
    return run(as, stored, { head, dataKey: undefined });
  },
  blobId: (data: Uint8Array) => hash("sha256", data, "buffer"),
};
