/** File trees for measurements. */
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

const FILES_A_DIRECTORY = 100;

/** `count` files of 1 to 8 KiB, 100 to a directory, contents incompressible and all different. Returns their bytes. */
export function smallFiles(root: string, count: number): number {
  const noise = randomBytes(1024 * 1024);
  let total = 0;
  for (let i = 0; i < count; i += 1) {
    const directory = path.join(root, `d${Math.floor(i / FILES_A_DIRECTORY)}`);
    if (i % FILES_A_DIRECTORY === 0) fs.mkdirSync(directory, { recursive: true });
    const bytes = 1024 + (createHash("md5").update(String(i)).digest().readUInt16LE() % 7168);
    const start = (i * 977) % (noise.length - 8192);
    const content = Buffer.from(noise.subarray(start, start + bytes));
    content.writeUInt32LE(i);
    fs.writeFileSync(path.join(directory, `f${i}`), content);
    total += bytes;
  }
  return total;
}

/** `count` files of so many MiB, incompressible. */
export function largeFiles(root: string, options: { count: number; mebibytes: number }): void {
  fs.mkdirSync(root, { recursive: true });
  for (let i = 0; i < options.count; i += 1) {
    const fd = fs.openSync(path.join(root, `large-${i}`), "w");
    for (let done = 0; done < options.mebibytes; done += 1) fs.writeSync(fd, randomBytes(1024 * 1024));
    fs.closeSync(fd);
  }
}

/** The next version of a file: eight places of 1 KiB overwritten and 100 bytes put in, saved as editors do. */
export function editFile(file: string): void {
  const old = fs.readFileSync(file);
  for (let i = 0; i < 8; i += 1) randomBytes(1024).copy(old, Math.floor(Math.random() * (old.length - 1024)));
  const at = Math.floor(Math.random() * old.length);
  const temporary = `${file}.new`;
  fs.writeFileSync(temporary, Buffer.concat([old.subarray(0, at), randomBytes(100), old.subarray(at)]));
  fs.renameSync(temporary, file);
}

/** Into the page cache. GNU tar would not read files for /dev/null. */
export function readAll(place: string): void {
  execFileSync("sh", ["-c", 'find "$0" -type f -exec cat {} + > /dev/null', place]);
}

/** Bytes of all files under a directory. */
export function bytesUnder(directory: string): number {
  const entries = fs.readdirSync(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + fs.statSync(path.join(entry.parentPath, entry.name)).size, 0);
}
