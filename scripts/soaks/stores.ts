/** Where a scenario keeps its repositories. */
import { randomUUID } from "node:crypto";

import { S3Store } from "../../src/repository/s3-store.ts";
import type { ObjectStore } from "../../src/repository/object-store.ts";
import { SftpStore } from "../../src/repository/sftp-store.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { S3Bucket } from "../../test/support/s3-server.ts";
import { SftpServer } from "../../test/support/sftp-server.ts";
import { setup, teardown } from "../../test/support/shared-servers.ts";

export interface Places extends AsyncDisposable {
  /** Opens a store at a place that was never used; undefined: a directory of the scenario's own. */
  readonly next: () => Promise<(() => ObjectStore) | undefined>;
}

export async function placesOf(kind: string): Promise<Places> {
  if (kind === "directory") return { next: async () => undefined, [Symbol.asyncDispose]: async () => undefined };
  if (kind === "s3") {
    setup();
    const next = async (): Promise<() => ObjectStore> => {
      const { place } = await S3Bucket.make();
      return () => new S3Store(place, { objectLock: undefined, requests: 8, clock: systemClock });
    };
    return { next, [Symbol.asyncDispose]: teardown };
  }
  if (kind !== "sftp") throw new Error(`no store "${kind}": directory, s3 or sftp`);
  const server = await SftpServer.start();
  const next = async (): Promise<() => ObjectStore> => {
    const place = { ...server.place, directory: server.at(`served/${randomUUID()}`) };
    return () => new SftpStore(place);
  };
  return { next, [Symbol.asyncDispose]: async () => server[Symbol.asyncDispose]() };
}
