import { hash } from "node:crypto";

import { RecordProblem } from "../event/record-error.ts";
import { decodeEnvelopeHead, encodeEnvelope, type OpenedWith } from "./envelope.ts";
import type { RepositorySealer, SealedAs } from "./sealer.ts";

/** Without a key: damage is found, nothing is hidden. */
export const plainSealer: RepositorySealer = {
  encrypted: false,
  seal: (as: SealedAs, raw: Uint8Array) => encodeEnvelope(as, raw),
  async opening(as: SealedAs, stored: Uint8Array): Promise<OpenedWith> {
    const head = decodeEnvelopeHead(stored, as);
    // Its config says that the repository is not encrypted.
    if (head.keyId) throw new RecordProblem("it is encrypted, unlike the repository");
    return { head, dataKey: undefined };
  },
  blobId: (data: Uint8Array) => hash("sha256", data, "buffer"),
};
