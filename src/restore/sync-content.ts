import fs from "node:fs";
import { type FileHandle, open } from "node:fs/promises";

import { syncFileSystem } from "../runtime/durable-directory.ts";
import { errnoOf } from "../runtime/errors.ts";

/** From so many files and directories on one call for the whole file system is sooner done than one for each. */
const MANY = 200;
/** The file system writes what several ask for at a time in one go. */
const AT_ONCE = 32;
const SLASH = Buffer.from("/");

/** Makes everything below a directory durable, names and contents. */
export async function syncContent(directory: string): Promise<void> {
  if (isMoreThan(MANY, directory) && (await syncFileSystem(directory))) return;
  const places = placesBelow(Buffer.from(directory));
  for (let some = take(places); some.length > 0; some = take(places)) await Promise.all(some.map(syncOne));
}

function isMoreThan(count: number, directory: string): boolean {
  let found = 0;
  for (const _ of placesBelow(Buffer.from(directory))) if (++found > count) return true;
  return false;
}

function take(places: Generator<Buffer>): Buffer[] {
  const some: Buffer[] = [];
  while (some.length < AT_ONCE) {
    const { value, done } = places.next();
    if (done) break;
    some.push(value);
  }
  return some;
}

/** Files and directories, a directory after what is in it. Names are bytes: they need not be text. */
function* placesBelow(directory: Buffer): Generator<Buffer> {
  for (const entry of fs.readdirSync(directory, { withFileTypes: true, encoding: "buffer" })) {
    const place = Buffer.concat([directory, SLASH, entry.name]);
    if (entry.isDirectory()) yield* placesBelow(place);
    else if (entry.isFile()) yield place;
  }
  yield directory;
}

async function syncOne(place: Buffer): Promise<void> {
  await using handle = await openReadable(place);
  await handle.sync();
}

/** A file may have come back with permissions under which not even its owner may open it. */
async function openReadable(place: Buffer): Promise<FileHandle> {
  try {
    return await open(place, "r");
  } catch (error) {
    if (errnoOf(error) !== "EACCES") throw error;
    const mode = fs.statSync(place).mode & 0o7777;
    fs.chmodSync(place, mode | 0o400);
    try {
      return await open(place, "r");
    } finally {
      fs.chmodSync(place, mode);
    }
  }
}
