import { createHash } from "node:crypto";

/** What an object of this name holds: its size is at the end of the name. */
export function writtenContent(name: string): Buffer {
  const bytes = Number(name.slice(name.lastIndexOf("-") + 1));
  return Buffer.alloc(bytes, createHash("sha256").update(name).digest());
}
