import { hash } from "node:crypto";

import { type ByteString, byteString } from "../event/tree-path.ts";

/** SHA-256 of a chunk: its name. One character per byte. */
export function contentId(data: Uint8Array): ByteString {
  return byteString(hash("sha256", data, "buffer"));
}
