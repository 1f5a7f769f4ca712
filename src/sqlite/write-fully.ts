import fs from "node:fs";

/** Writes all of `bytes` at `position`; a single write may be short. */
export function writeFully(fd: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length;) {
    done += fs.writeSync(fd, bytes, done, bytes.length - done, position + done);
  }
}

/** Writes all of `parts`, one behind the other, from `position` on. */
export function writeAll(fd: number, parts: readonly Uint8Array[], position: number): void {
  let written = fs.writevSync(fd, parts, position);
  let at = position;
  for (const part of parts) {
    if (written < part.length) writeFully(fd, part.subarray(written), at + written);
    at += part.length;
    written = Math.max(0, written - part.length);
  }
}

/** Reads until `target` is full or the file ends; returns the length read. */
export function readUpTo(fd: number, target: Uint8Array, position: number): number {
  let done = 0;
  while (done < target.length) {
    const length = fs.readSync(fd, target, done, target.length - done, position + done);
    if (length === 0) break;
    done += length;
  }
  return done;
}
