import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { CreateBucketCommand, PutBucketVersioningCommand, S3Client } from "@aws-sdk/client-s3";

import type { S3Place } from "../../src/config/config.ts";
import { S3_KEYS } from "./s3-cluster.ts";
import { SHARED_DIRECTORY, SHARED_OWNER } from "./shared-servers.ts";
import { waitFor } from "./wait.ts";

const PROGRAM = fileURLToPath(new URL("s3-cluster-process.ts", import.meta.url));

/** A bucket of its own in the S3 service that all test files share; the first who asks starts the service. */
export class S3Bucket {
  readonly place: S3Place;
  /** To look behind a store's back. */
  readonly client: S3Client;

  private constructor(endpoint: string, bucket: string) {
    const none = { region: undefined, profile: undefined, ca: undefined, sse: undefined, storageClass: undefined };
    this.place = { kind: "s3", bucket, prefix: "app/", endpoint, pathStyle: true, ...none };
    this.client = new S3Client({ endpoint, region: "us-east-1", forcePathStyle: true, credentials: S3_KEYS });
  }

  /** Stores find the service's credentials in the environment of this process. */
  static async make(kind: "plain" | "versions" | "lock" = "plain", name?: string): Promise<S3Bucket> {
    process.env["AWS_ACCESS_KEY_ID"] = S3_KEYS.accessKeyId;
    process.env["AWS_SECRET_ACCESS_KEY"] = S3_KEYS.secretAccessKey;
    const Bucket = name ?? `tidemark-${randomUUID()}`;
    const made = new S3Bucket(await s3Endpoint(), Bucket);
    await made.client.send(new CreateBucketCommand({ Bucket, ObjectLockEnabledForBucket: kind === "lock" }));
    if (kind === "versions") {
      const VersioningConfiguration = { Status: "Enabled" } as const;
      await made.client.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration }));
    }
    return made;
  }

  /** For a configuration or `--repository`; with the environment below. */
  get url(): string {
    return `s3://${this.place.bucket}/app?endpoint=${encodeURIComponent(this.place.endpoint ?? "")}`;
  }

  /** For a process that opens `url`. */
  get env(): Record<string, string> {
    return { AWS_ACCESS_KEY_ID: S3_KEYS.accessKeyId, AWS_SECRET_ACCESS_KEY: S3_KEYS.secretAccessKey };
  }
}

async function s3Endpoint(): Promise<string> {
  const shared = process.env[SHARED_DIRECTORY];
  const owner = process.env[SHARED_OWNER];
  if (shared === undefined || owner === undefined) throw new Error("vitest's globalSetup did not run");
  const directory = path.join(shared, "s3");
  if (isFirst(directory)) {
    const { pid } = spawn(process.execPath, [PROGRAM, directory, owner], { stdio: "ignore", detached: true });
    fs.writeFileSync(path.join(shared, "s3.pid"), String(pid));
  }
  return await waitFor("the S3 service", () => readIfThere(path.join(directory, "endpoint")) ?? failure(directory), {
    timeoutMs: 55_000,
  });
}

function isFirst(directory: string): boolean {
  try {
    fs.mkdirSync(directory);
    return true;
  } catch {
    return false;
  }
}

function failure(directory: string): undefined {
  const words = readIfThere(path.join(directory, "failure"));
  if (words !== undefined) throw new Error(`the S3 service did not start: ${words}`);
  return undefined;
}

function readIfThere(file: string): string | undefined {
  return fs.existsSync(file) ? fs.readFileSync(file, "utf8") : undefined;
}
