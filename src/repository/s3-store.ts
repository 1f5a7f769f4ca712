import { createHash } from "node:crypto";
import { addAbortSignal, Readable } from "node:stream";

import {
  GetObjectCommand,
  type GetObjectCommandOutput,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
} from "@aws-sdk/client-s3";

import type { RepositoryConfig, S3Place } from "../config/config.ts";
import type { Clock } from "../runtime/clock.ts";
import { TidemarkError } from "../runtime/errors.ts";
import {
  type ByteRange,
  isObjectName,
  objectCut,
  type ObjectInfo,
  objectMissing,
  type ObjectStore,
} from "./object-store.ts";
import { EXPIRED_PREFIX, LOCK_PREFIX, PROBE_PREFIX } from "./object-names.ts";
import { s3Client } from "./s3-client.ts";
import { s3ErrorName, s3StatusOf, s3StoreError } from "./s3-errors.ts";
import { abortOldUploads, putInParts } from "./s3-multipart.ts";
import { removeVersions } from "./s3-versions.ts";
import { storeLocation } from "./store-location.ts";

export interface S3StoreOptions {
  readonly objectLock: RepositoryConfig["objectLock"];
  /** In flight at once, for the pool of connections. */
  readonly requests: number;
  readonly clock: Clock;
  /** Larger objects go in parts of at least half of it. No service takes parts of less than 5 MiB. */
  readonly partBytes?: number;
}

const MIB = 1024 * 1024;
const PART_BYTES = 16 * MIB;
const DAY_MS = 24 * 60 * 60 * 1000;
/** For an answer to a small request; what is large gets time for its bytes at the slowest line that makes sense. */
const ANSWER_MS = 60_000;
const SLOWEST_BYTES_PER_MS = 16;
/** Who holds the repository, or looked at it, is of no interest in a week, and what was marked may have to be taken back: removable now. */
const NEVER_LOCKED = [LOCK_PREFIX, PROBE_PREFIX, EXPIRED_PREFIX];

/** A bucket of Amazon's or of any service that speaks its protocol, and a prefix in it. */
export class S3Store implements ObjectStore {
  readonly location: string;
  readonly #client: S3Client;
  readonly #place: S3Place;
  readonly #options: S3StoreOptions;
  #swept = false;

  constructor(place: S3Place, options: S3StoreOptions) {
    this.#place = place;
    this.#options = options;
    this.#client = s3Client(place, options);
    this.location = storeLocation(place);
  }

  async put(name: string, data: Uint8Array, signal: AbortSignal): Promise<void> {
    await this.#during(name, deadline(signal, data.length), async (abortSignal) => {
      const { partBytes = PART_BYTES } = this.#options;
      const target = { ...this.#target(name), ...this.#attributes(name) };
      await this.#sweep(abortSignal);
      if (data.length > partBytes) {
        return putInParts(this.#client, target, { data, partBytes, signal: abortSignal });
      }
      const md5 = createHash("md5").update(data).digest("base64");
      await this.#client.send(new PutObjectCommand({ ...target, Body: data, ContentMD5: md5 }), { abortSignal });
    });
  }

  async get(name: string, signal: AbortSignal, range?: ByteRange): Promise<Uint8Array> {
    if (range?.bytes === 0) return await this.#nothingOf(name, signal, range);
    return await this.#during(name, deadline(signal, range?.bytes ?? 64 * MIB), async (abortSignal) => {
      const Range = range && `bytes=${range.offset}-${range.offset + range.bytes - 1}`;
      const answer = await this.#getObject(name, { Range, abortSignal });
      const data = await wholeBody(answer, abortSignal);
      if (range && data.length !== range.bytes) {
        throw objectCut(this, name, { bytes: sizeIn(answer) ?? data.length, range });
      }
      return data;
    });
  }

  async head(name: string, signal: AbortSignal): Promise<ObjectInfo | undefined> {
    return await this.#during(name, deadline(signal, 0), async (abortSignal) => {
      try {
        const found = await this.#client.send(new HeadObjectCommand(this.#target(name)), { abortSignal });
        const modifiedMs = found.LastModified?.getTime();
        return { name, bytes: found.ContentLength ?? 0, ...(modifiedMs !== undefined && { modifiedMs }) };
      } catch (error) {
        if (s3StatusOf(error) === 404 && s3ErrorName(error) !== "NoSuchBucket") return undefined;
        throw error;
      }
    });
  }

  async *list(prefix: string, signal: AbortSignal, after?: string): AsyncGenerator<ObjectInfo, void, void> {
    const request = { Bucket: this.#place.bucket, Prefix: this.#key(prefix) };
    const begin = after === undefined || after === "" ? {} : { StartAfter: this.#key(after) };
    let token: string | undefined;
    do {
      const command = new ListObjectsV2Command({ ...request, ...begin, ContinuationToken: token });
      const page = await this.#during(`${prefix}…`, deadline(signal, 0), async (abortSignal) => {
        return await this.#client.send(command, { abortSignal });
      });
      for (const { Key = "", Size = 0 } of page.Contents ?? []) {
        const name = Key.slice(this.#place.prefix.length);
        signal.throwIfAborted();
        if (isObjectName(name)) yield { name, bytes: Size };
      }
      token = page.IsTruncated ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
  }

  async remove(name: string, signal: AbortSignal): Promise<void> {
    await this.#during(name, deadline(signal, 0), async (abortSignal) => {
      const hide = isNeverLocked(name);
      const context = { location: this.location, name, hide, signal: abortSignal };
      await removeVersions(this.#client, this.#target(name), context);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.destroy();
  }

  #key(name: string): string {
    return `${this.#place.prefix}${name}`;
  }

  #target(name: string): { Bucket: string; Key: string } {
    return { Bucket: this.#place.bucket, Key: this.#key(name) };
  }

  /** What a new object is given. */
  #attributes(name: string): Partial<ConstructorParameters<typeof PutObjectCommand>[0]> {
    const { sse, storageClass } = this.#place;
    const { objectLock, clock } = this.#options;
    const locked = objectLock && !isNeverLocked(name);
    return {
      ...(sse && { ServerSideEncryption: sse.kind }),
      ...(sse?.kind === "aws:kms" && sse.keyId !== undefined && { SSEKMSKeyId: sse.keyId }),
      // Names that a service invented are as good as Amazon's.
      ...(storageClass !== undefined && { StorageClass: storageClass as "STANDARD" }),
      ...(locked && {
        ObjectLockMode: objectLock.mode,
        ObjectLockRetainUntilDate: new Date(clock.now() + objectLock.days * DAY_MS),
      }),
    };
  }

  async #getObject(
    name: string,
    { Range, abortSignal }: { Range: string | undefined; abortSignal: AbortSignal },
  ): Promise<GetObjectCommandOutput> {
    try {
      return await this.#client.send(new GetObjectCommand({ ...this.#target(name), Range }), { abortSignal });
    } catch (error) {
      if (s3ErrorName(error) === "NoSuchKey") throw objectMissing(this, name, error);
      if (s3StatusOf(error) !== 416) throw error;
      const [offset = 0, last = 0] =
        /\d+-\d+/
          .exec(Range ?? "")?.[0]
          .split("-")
          .map(Number) ?? [];
      const bytes = (await this.head(name, abortSignal))?.bytes ?? 0;
      throw objectCut(this, name, { bytes, range: { offset, bytes: last - offset + 1 } });
    }
  }

  /** HTTP has no range of no bytes. */
  async #nothingOf(name: string, signal: AbortSignal, range: ByteRange): Promise<Uint8Array> {
    const found = await this.head(name, signal);
    if (!found) throw objectMissing(this, name);
    if (range.offset > found.bytes) throw objectCut(this, name, { bytes: found.bytes, range });
    return new Uint8Array(0);
  }

  /** Once. Parts of uploads that nobody finished are stored and paid for, and no list shows them. */
  async #sweep(signal: AbortSignal): Promise<void> {
    if (this.#swept) return;
    this.#swept = true;
    const before = new Date(this.#options.clock.now() - DAY_MS);
    await abortOldUploads(this.#client, { Bucket: this.#place.bucket, Prefix: this.#place.prefix }, { before, signal });
  }

  async #during<T>(
    name: string,
    signals: { readonly given: AbortSignal; readonly all: AbortSignal },
    work: (abortSignal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    signals.given.throwIfAborted();
    try {
      return await work(signals.all);
    } catch (error) {
      signals.given.throwIfAborted();
      throw error instanceof TidemarkError ? error : s3StoreError(error, { location: this.location, name });
    }
  }
}

function isNeverLocked(name: string): boolean {
  return NEVER_LOCKED.some((prefix) => name.startsWith(prefix));
}

function deadline(given: AbortSignal, bytes: number): { given: AbortSignal; all: AbortSignal } {
  const timeout = AbortSignal.timeout(ANSWER_MS + Math.ceil(bytes / SLOWEST_BYTES_PER_MS));
  return { given, all: AbortSignal.any([given, timeout]) };
}

/** @throws when the connection ends early */
async function wholeBody({ Body, ContentLength }: GetObjectCommandOutput, signal: AbortSignal): Promise<Uint8Array> {
  if (!(Body instanceof Readable)) throw new Error("the answer has no body");
  const chunks: Uint8Array[] = [];
  for await (const chunk of addAbortSignal(signal, Body as Readable)) chunks.push(chunk as Uint8Array);
  const data = Buffer.concat(chunks);
  if (ContentLength === undefined || ContentLength === data.length) return data;
  throw Object.assign(new Error(`only ${data.length} of ${ContentLength} bytes came`), { code: "ECONNRESET" });
}

/** Of the whole object, from `bytes 0-9/100`. */
function sizeIn({ ContentRange }: GetObjectCommandOutput): number | undefined {
  const size = /\/(\d+)$/.exec(ContentRange ?? "")?.[1];
  return size === undefined ? undefined : Number(size);
}
