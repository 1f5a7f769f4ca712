import { createHmac, hash } from "node:crypto";

import { type ByteString, byteString } from "../event/tree-path.ts";

/**
 * The name of a piece of content: its SHA-256, or with a key its HMAC-SHA-256, so that whoever sees names cannot tell whether
 * content that he knows is among it.
 */
export function contentId(data: Uint8Array, nameKey?: Uint8Array): ByteString {
  if (!nameKey) return byteString(hash("sha256", data, "buffer"));
  return byteString(createHmac("sha256", nameKey).update(data).digest());
}

/** Whether the content has this name, under one of the keys or without one: a log may have begun before there was a key. */
export function isContent(id: ByteString, data: Uint8Array, nameKeys: readonly Uint8Array[]): boolean {
  return nameKeys.some((key) => contentId(data, key) === id) || contentId(data) === id;
}
