// Puts objects into a store, several at once, and says which are there, until it is killed: `store-writer-process.ts
// LIFE CONFIG`. Ends by itself only when a put fails.
import type { RepositoryConfig } from "../../src/config/config.ts";
import { openStore } from "../../src/repository/open-store.ts";
import { writtenContent } from "./written-content.ts";

const MiB = 1024 * 1024;
const AT_ONCE = 6;

const [life = "", json = ""] = process.argv.slice(2);
const config = JSON.parse(json) as RepositoryConfig;
const { store } = await openStore(config);
// The largest goes to S3 in parts.
const sizes = [0, 1000, config.place.kind === "s3" ? 18 * MiB : 4 * MiB, 70_000, MiB];
const { signal } = new AbortController();

async function writeOn(first: number): Promise<void> {
  for (let count = first; ; count += AT_ONCE) {
    const name = `packs/${life}/${count}-${sizes[count % sizes.length]}`;
    await store.put(name, writtenContent(name), signal);
    process.stdout.write(`${name}\n`);
  }
}

await Promise.all(Array.from({ length: AT_ONCE }, (_, first) => writeOn(first)));
