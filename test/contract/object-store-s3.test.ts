import { systemClock } from "../../src/runtime/clock.ts";
import { S3Store } from "../../src/repository/s3-store.ts";
import { S3Bucket } from "../support/s3-server.ts";
import { objectStoreContract } from "./object-store.ts";

objectStoreContract(async () => {
  const { place } = await S3Bucket.make();
  return {
    open: () => new S3Store(place, { objectLock: undefined, requests: 8, clock: systemClock }),
    [Symbol.asyncDispose]: async () => undefined,
  };
});
