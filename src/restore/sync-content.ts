import fs from "node:fs";

import { openReadable, syncDescriptor, syncFileSystem } from "../runtime/durable-directory.ts";

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
  const fd = openReadable(place);
  try {
    await syncDescriptor(fd);
  } finally {
    fs.closeSync(fd);
  }
}
