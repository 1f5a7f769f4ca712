// usage: repository-writer.ts DIRECTORY CACHE: writes into a repository until it is killed. Prints a line of JSON whenever
// something is durable: { "blobs": [hexadecimal ids] }, { "segment": name } or { "base": name }.
import { encodeRecord, NO_PREVIOUS_HASH } from "../../../src/event/codec.ts";
import { epoch, offset } from "../../../src/event/positions.ts";
import { FsStore } from "../../../src/repository/fs-store.ts";
import { openRepository } from "../../../src/repository/open-repository.ts";
import { blobName } from "../../../src/repository/pack.ts";
import { systemClock } from "../../../src/runtime/clock.ts";

const [directory = "", cacheDirectory = ""] = process.argv.slice(2);
const { signal } = new AbortController();
const store = new FsStore(directory);
const options = { store, set: "shop", mode: "write", cacheDirectory, createdBy: "test", clock: systemClock } as const;
await using repository = await openRepository({ ...options, signal });
await using writer = repository.blobs.writer(signal);

const logId = "3f0c2c9e-8a7b-4e53-9d5e-0a6b1c2d3e4f";
const first = Number((await repository.segments.newest(signal))?.last ?? 0) + 1;
for (let at = first; ; at += 1) {
  // The same contents again in every life: what a dead one stored and did not list is stored once more.
  const ids = [];
  for (let part = 0; part < 3; part += 1) ids.push(await writer.add("chunk", Buffer.alloc(5000, `${at} ${part}`)));
  await writer.finish(signal);
  tell({ blobs: ids.map(blobName) });
  const position = { offset: offset(at), epoch: epoch(1), timeMs: 1_767_225_600_000 + at };
  const body = { kind: "mark", name: `mark ${at}` } as const;
  const data = encodeRecord({ ...position, previousHash: NO_PREVIOUS_HASH, body });
  const records = [{ stored: { data }, event: { ...position, bytes: data.length, body } }];
  for (const { name } of await repository.segments.write({ logId, records }, signal)) tell({ segment: name });
  const base = await repository.bases.write(
    {
      ...position,
      logId,
      hash: Buffer.alloc(32),
      checksumSeed: 1n,
      databases: [],
      trees: [{ name: "t", lists: ids, count: 0, bytes: 0 }],
      bytesNew: 0,
      bytesAll: 0,
      createdMs: 0,
      createdBy: "test",
    },
    signal,
  );
  tell({ base: base.name });
}

function tell(durable: object): void {
  process.stdout.write(`${JSON.stringify(durable)}\n`);
}
