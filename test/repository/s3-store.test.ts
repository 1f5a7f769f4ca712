import { once } from "node:events";
import fs from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import {
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import { expect, test } from "vitest";

import type { S3Place } from "../../src/config/config.ts";
import { openRepository } from "../../src/repository/open-repository.ts";
import { RetryingStore } from "../../src/repository/retrying-store.ts";
import { S3Store, type S3StoreOptions } from "../../src/repository/s3-store.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { withEnvironment } from "../support/environment.ts";
import { codeOf } from "../support/log-records.ts";
import { Random } from "../support/random.ts";
import { S3_HOST, S3_KMS_KEY } from "../support/s3-cluster.ts";
import { S3Bucket } from "../support/s3-server.ts";
import { asRoot } from "../support/small-disk.ts";
import { TcpProxy } from "../support/tcp-proxy.ts";
import { lastJson } from "../support/tidemark-cli.ts";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
const MiB = 1024 * 1024;
const DAY_MS = 24 * 60 * 60 * 1000;
const { signal } = new AbortController();

function storeAt(place: S3Place, options: Partial<S3StoreOptions> = {}): S3Store {
  return new S3Store(place, {
    objectLock: undefined,
    requests: 8,
    clock: systemClock,
    partBytes: 10 * MiB,
    ...options,
  });
}

async function proxyOf({ place }: S3Bucket): Promise<TcpProxy> {
  return await TcpProxy.start(Number(new URL(place.endpoint ?? "").port));
}

async function uploadsOf({ client, place }: S3Bucket): Promise<number> {
  return (await client.send(new ListMultipartUploadsCommand({ Bucket: place.bucket }))).Uploads?.length ?? 0;
}

test("buckets as hosts: a name service that knows them is all it takes", async () => {
  const { place, env } = await S3Bucket.make();
  const { port } = new URL(place.endpoint ?? "");
  const hosts = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-hosts-")), "hosts");
  fs.writeFileSync(hosts, `127.0.0.1 ${place.bucket}.${S3_HOST}\n`);
  const url = `s3://${place.bucket}/app?endpoint=http://${S3_HOST}:${port}&pathStyle=false`;
  try {
    const command = [process.execPath, MAIN, "check", "--repository", url, "--json"];
    const values = Object.entries(env).map(([key, value]) => `${key}=${value}`);
    const elsewhere = ["sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts, "env", ...values, ...command];
    const { findings } = lastJson(asRoot("unshare", "--mount", ...elsewhere));
    expect(findings).toContainEqual(expect.objectContaining({ severity: "ok", code: "REPOSITORY" }));
  } finally {
    fs.rmSync(path.dirname(hosts), { recursive: true });
  }
});

test("every object, in one request or in parts, is encrypted by the service when asked for", async () => {
  const { place, client } = await S3Bucket.make();
  await using store = storeAt({ ...place, sse: { kind: "aws:kms", keyId: S3_KMS_KEY } });
  const data = new Random("encrypted by the service").bytes(11 * MiB);
  await store.put("small", data.subarray(0, 100), signal);
  await store.put("large", data, signal);
  for (const name of ["small", "large"]) {
    const found = await client.send(new HeadObjectCommand({ Bucket: place.bucket, Key: `app/${name}` }));
    expect([found.ServerSideEncryption, found.SSEKMSKeyId]).toEqual(["aws:kms", S3_KMS_KEY]);
  }
  expect(Buffer.compare(await store.get("large", signal), data)).toBe(0);
});

test("encryption under the service's own key is asked for with each object, once for all of its parts", async () => {
  const bucket = await S3Bucket.make();
  await using proxy = await proxyOf(bucket);
  const asked: string[] = [];
  proxy.onUpload = (chunk) => {
    const [, request] = /^((?:PUT|POST) [^ ?]*\?[a-zA-Z-]*)=\S* HTTP/.exec(chunk.toString("latin1")) ?? [];
    const [, sse = "none"] = /^x-amz-server-side-encryption: (.*)\r$/im.exec(chunk.toString("latin1")) ?? [];
    if (request !== undefined) asked.push(`${request} ${sse}`.replace(`/${bucket.place.bucket}/app/`, ""));
  };
  await using store = storeAt({ ...bucket.place, endpoint: `http://${proxy.address}`, sse: { kind: "AES256" } });
  const data = new Random("encrypted under the service's key").bytes(11 * MiB);
  await store.put("small", data.subarray(0, 100), signal);
  await store.put("large", data, signal);
  const parts = Array.from({ length: 2 }, () => "PUT large?partNumber none");
  const wanted = ["PUT small?x-id AES256", "POST large?uploads AES256", ...parts, "POST large?uploadId none"];
  expect(asked).toEqual(wanted);
  expect(Buffer.compare(await store.get("large", signal), data)).toBe(0);
});

test("the storage class is asked for, and one that the service does not have is said", async () => {
  const { place } = await S3Bucket.make();
  await using store = storeAt({ ...place, storageClass: "STANDARD" });
  await store.put("one", Buffer.from("1"), signal);
  await using other = storeAt({ ...place, storageClass: "NO_SUCH_CLASS" });
  expect(await codeOf(other.put("two", Buffer.from("2"), signal))).toBe("STORE_DENIED");
});

test("in a bucket that keeps everything under COMPLIANCE a repository works, and what cannot go says until when", async () => {
  const { place } = await S3Bucket.make("lock");
  const store = storeAt(place, { objectLock: { mode: "COMPLIANCE", days: 3 } });
  const cacheDirectory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-lock-"));
  const options = { set: "shop", cacheDirectory, createdBy: "test", clock: systemClock, signal };
  try {
    await using repository = await openRepository({ store, mode: "write", ...options });
    await using _ = await repository.lock("shared", signal);
    const writer = repository.blobs.writer(signal);
    const data = new Random("kept").bytes(100_000);
    const id = await writer.add("chunk", data);
    await writer.finish(signal);
    expect(Buffer.compare(await repository.blobs.read(id, signal), data)).toBe(0);
    const [pack] = await Array.fromAsync(store.list("packs/", signal));
    const refused: unknown = await store.remove(pack?.name ?? "", signal).catch((error: unknown) => error);
    const until = new Date(Date.now() + 3 * DAY_MS).toISOString().slice(0, 10);
    expect(refused).toMatchObject({ code: "OBJECT_LOCKED", message: expect.stringContaining(`until ${until}`) });
  } finally {
    fs.rmSync(cacheDirectory, { recursive: true });
  }
  await using after = storeAt(place);
  expect(await Array.fromAsync(after.list("locks/", signal))).toEqual([]);
  expect(await Array.fromAsync(after.list("packs/", signal))).toHaveLength(1);
});

test("a service that asks to slow down is asked again later, a bounded number of times, and by nobody else", async () => {
  const bucket = await S3Bucket.make();
  await using proxy = await proxyOf(bucket);
  const words = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
  const head = `HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: ${words.length}`;
  let [asked, refusals, refused] = [0, 0, false];
  proxy.onUpload = () => {
    asked += 1;
    refused = false;
  };
  proxy.rewriteAnswers = () => (chunk) => {
    // The rest of an answer that was exchanged.
    if (refused) return Buffer.alloc(0);
    refused = asked <= refusals;
    return refused ? Buffer.from(`${head}\r\n\r\n${words}`) : chunk;
  };
  const slowDown = (times: number): void => void ([asked, refusals] = [0, times]);
  const place = { ...bucket.place, endpoint: `http://${proxy.address}` };
  await using store = storeAt(place);
  await store.put("one", Buffer.from("1"), signal);
  slowDown(Number.POSITIVE_INFINITY);
  expect(await codeOf(store.get("one", signal))).toBe("STORE_UNREACHABLE");
  expect(asked).toBe(1);
  const retrying = new RetryingStore(store, { attempts: 4, firstDelayMs: 20, maxDelayMs: 50 });
  slowDown(3);
  expect(Buffer.from(await retrying.get("one", signal)).toString()).toBe("1");
  slowDown(4);
  expect(await codeOf(retrying.get("one", signal))).toBe("STORE_UNREACHABLE");
  expect(asked).toBe(4);
});

test("a connection that is cut between parts leaves neither an object nor parts, and a repetition puts it", async () => {
  const bucket = await S3Bucket.make();
  await using proxy = await proxyOf(bucket);
  await using store = storeAt({ ...bucket.place, endpoint: `http://${proxy.address}` });
  const data = new Random("cut in the middle").bytes(12 * MiB);
  const cutAfter = (bytes: number): void => {
    const end = proxy.uploaded + bytes;
    proxy.onUpload = () => {
      if (proxy.uploaded < end) return;
      proxy.onUpload = undefined;
      proxy.cut();
    };
  };
  cutAfter(8 * MiB);
  expect(await codeOf(store.put("packs/00/one", data, signal))).toBe("STORE_UNREACHABLE");
  expect([await store.head("packs/00/one", signal), await uploadsOf(bucket)]).toEqual([undefined, 0]);
  cutAfter(10 * MiB);
  await new RetryingStore(store, { firstDelayMs: 20 }).put("packs/00/one", data, signal);
  expect(Buffer.compare(await store.get("packs/00/one", signal), data)).toBe(0);
  expect(await uploadsOf(bucket)).toBe(0);
});

test("an upload that a killed process left is removed after a day, by whoever puts next", async () => {
  const bucket = await S3Bucket.make();
  const target = { Bucket: bucket.place.bucket, Key: "app/packs/00/one" };
  const { UploadId } = await bucket.client.send(new CreateMultipartUploadCommand(target));
  await bucket.client.send(new UploadPartCommand({ ...target, UploadId, PartNumber: 1, Body: Buffer.alloc(5 * MiB) }));
  await using today = storeAt(bucket.place);
  await today.put("one", Buffer.from("1"), signal);
  expect(await uploadsOf(bucket)).toBe(1);
  const tomorrow = { now: () => systemClock.now() + DAY_MS + 60_000, monotonic: () => systemClock.monotonic() };
  await using store = storeAt(bucket.place, { clock: tomorrow });
  await store.put("two", Buffer.from("2"), signal);
  expect(await uploadsOf(bucket)).toBe(0);
});

test("an instance's own credentials are found where no others are given", async () => {
  const { place, env } = await S3Bucket.make();
  // A real instance cannot be had here: this says what the machine's service says there, in its second version.
  const said = {
    Code: "Success",
    Type: "AWS-HMAC",
    AccessKeyId: env["AWS_ACCESS_KEY_ID"],
    SecretAccessKey: env["AWS_SECRET_ACCESS_KEY"],
    Token: "",
    Expiration: new Date(Date.now() + DAY_MS).toISOString(),
  };
  const asked: string[] = [];
  const service = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    const isKnown = request.headers["x-aws-ec2-metadata-token"] === "a token";
    if (request.method === "PUT") response.end("a token");
    else if (isKnown) response.end(request.url?.endsWith("/backup") ? JSON.stringify(said) : "backup");
    else response.writeHead(401).end();
  });
  await once(service.listen(0, "127.0.0.1"), "listening");
  const { port } = service.address() as AddressInfo;
  const nothing = { AWS_SHARED_CREDENTIALS_FILE: "/dev/null", AWS_CONFIG_FILE: "/dev/null" };
  const there = { ...nothing, AWS_EC2_METADATA_SERVICE_ENDPOINT: `http://127.0.0.1:${port}` };
  try {
    await withEnvironment({ ...without(env), ...there }, async () => {
      await using store = storeAt(place);
      await store.put("one", Buffer.from("1"), signal);
    });
  } finally {
    service.close();
  }
  const roles = "GET /latest/meta-data/iam/security-credentials/";
  expect(asked).toEqual(["PUT /latest/api/token", roles, `${roles}backup`]);
});

test("credentials come from a profile of the AWS tools' own file too; without any it is said what to set", async () => {
  const { place, env } = await S3Bucket.make();
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-aws-"));
  const file = path.join(directory, "credentials");
  const { AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: secret } = env;
  fs.writeFileSync(file, `[backup]\naws_access_key_id = ${id}\naws_secret_access_key = ${secret}\n`);
  const elsewhere = {
    AWS_SHARED_CREDENTIALS_FILE: file,
    AWS_CONFIG_FILE: "/dev/null",
    AWS_EC2_METADATA_DISABLED: "true",
  };
  try {
    await withEnvironment({ ...without(env), ...elsewhere }, async () => {
      await using store = storeAt({ ...place, profile: "backup" });
      await store.put("one", Buffer.from("1"), signal);
      await using nobody = storeAt(place);
      const refused: unknown = await nobody.head("one", signal).catch((error: unknown) => error);
      expect(refused).toMatchObject({ code: "STORE_DENIED", hint: expect.stringContaining("AWS_ACCESS_KEY_ID") });
    });
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
});

function without(env: Readonly<Record<string, string>>): Record<string, undefined> {
  return Object.fromEntries(Object.keys(env).map((key) => [key, undefined]));
}
