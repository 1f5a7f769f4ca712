import type { RepositoryConfig } from "../config/config.ts";
import { type Clock, systemClock } from "../runtime/clock.ts";
import { CountingStore, type StoreCounts } from "./counting-store.ts";
import { FsStore } from "./fs-store.ts";
import { LimitedStore } from "./limited-store.ts";
import type { ObjectStore } from "./object-store.ts";
import { RetryingStore } from "./retrying-store.ts";

export interface OpenedStore {
  /** Tries again what can pass, within the limits of the configuration. */
  readonly store: ObjectStore;
  /** What really went to the place, repetitions included. */
  readonly counts: Readonly<StoreCounts>;
}

/** Asks nothing of the place yet. */
export async function openStore(
  config: Omit<RepositoryConfig, "keep">,
  clock: Clock = systemClock,
): Promise<OpenedStore> {
  const counting = new CountingStore(await storeAt(config, clock));
  const limited = new LimitedStore(counting, { ...config.limits, clock });
  return { store: new RetryingStore(limited), counts: counting.counts };
}

/** Clients of services are loaded only where one is used. */
async function storeAt(
  { place, limits, objectLock }: Omit<RepositoryConfig, "keep">,
  clock: Clock,
): Promise<ObjectStore> {
  switch (place.kind) {
    case "directory":
      return new FsStore(place.directory);
    case "s3": {
      const { S3Store } = await import("./s3-store.ts");
      return new S3Store(place, { objectLock, requests: limits.requests, clock });
    }
    case "sftp": {
      const { SftpStore } = await import("./sftp-store.ts");
      return new SftpStore(place);
    }
    default:
      return place satisfies never;
  }
}
