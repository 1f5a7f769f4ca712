// usage: expire-runner.ts DIRECTORY CACHE NOW RULES: applies retention, with a clock that stands at NOW, until it is killed.
import type { KeepConfig } from "../../../src/config/config.ts";
import { expireRepository } from "../../../src/repository/expire/expire.ts";
import { FsStore } from "../../../src/repository/fs-store.ts";
import { openRepository } from "../../../src/repository/open-repository.ts";

const [directory = "", cacheDirectory = "", now = "", rules = "{}"] = process.argv.slice(2);
const { signal } = new AbortController();
const clock = { now: () => Number(now), monotonic: () => Number(now) };
const store = new FsStore(directory);
const options = { store, set: "shop", mode: "read", cacheDirectory, createdBy: "test", clock, signal } as const;
await using repository = await openRepository(options);
await expireRepository(repository, {
  rules: JSON.parse(rules) as KeepConfig,
  confirm: true,
  rewrites: true,
  clock,
  signal,
});
