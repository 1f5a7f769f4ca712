import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { expect, test } from "vitest";

import { readConfigFile } from "../../src/config/config-file.ts";
import { fileSchema } from "../../src/config/config-schema.ts";
import { repositoriesConfig, repositoryFromText } from "../../src/config/repository-config.ts";
import { TidemarkError } from "../../src/runtime/errors.ts";

const place = (text: string) => repositoryFromText(text, { where: "--repository", directory: "/srv" }).place;

const refusal = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    if (error instanceof TidemarkError) return `${error.code}: ${error.message} ${error.hint}`;
    throw error;
  }
  return "accepted";
};

test("a directory counts from where it was named", () => {
  expect(place("backup")).toEqual({ kind: "directory", directory: "/srv/backup" });
  expect(place("/mnt/b:c@d")).toEqual({ kind: "directory", directory: "/mnt/b:c@d" });
});

test("a bucket with everything that can be said in the location", () => {
  const url =
    "s3://backups/app/one?endpoint=https://s3.example.org:9000&region=eu-1&profile=cold&sse=aws:kms&kmsKey=k1";
  expect(place(url)).toMatchObject({
    kind: "s3",
    bucket: "backups",
    prefix: "app/one/",
    endpoint: "https://s3.example.org:9000/",
    region: "eu-1",
    profile: "cold",
    pathStyle: true,
    sse: { kind: "aws:kms", keyId: "k1" },
  });
  expect(place("s3://backups")).toMatchObject({ prefix: "", endpoint: undefined, pathStyle: false, sse: undefined });
  expect(place("s3://backups/?endpoint=http://h&pathStyle=false")).toMatchObject({ pathStyle: false });
});

test("a directory on a host", () => {
  const found = place("sftp://backup@[::1]:2222/srv/tide%20mark/?keyFile=id");
  expect(found).toMatchObject({ host: "::1", port: 2222, user: "backup", directory: "/srv/tide mark" });
  expect(found).toMatchObject({ keyFile: "/srv/id", hostKey: undefined });
  expect(place("sftp://host/~/backup")).toMatchObject({ port: 22, user: undefined, directory: "backup" });
});

test.for([
  ["", "is empty"],
  ["ftp://host/x", "no place for a repository"],
  ["s3:///prefix", "names no bucket"],
  ["s3://Bad_Bucket/x", "names no bucket"],
  ["s3://bucket/x?regoin=eu", "did you mean region?"],
  ["s3://bucket/x?pathStyle=1", "neither true nor false"],
  ["s3://bucket/x?sse=DES", "not possible"],
  ["s3://bucket/x?endpoint=s3.example.org", "no http:// or https:// URL"],
  ["sftp://host", "names no host and directory"],
  ["sftp://host/%zz", "percent-encoded"],
  ["sftp://host/x?region=eu", "no option region"],
] as const)("%s is refused", ([text, why]) => {
  expect(refusal(() => place(text))).toContain(why);
});

test("secrets are neither accepted in a location nor shown", () => {
  for (const text of [
    "s3://AKIA:geheim@bucket/x",
    "sftp://user:geheim@host/x",
    "ftp://user:geheim@host/x",
    "s3://bucket/x?endpoint=https://user:geheim@host",
  ]) {
    const message = refusal(() => place(text));
    expect(message).toMatch(/^CONFIG: --repository/);
    expect(message).not.toContain("geheim");
  }
});

test("entries of the file, one or a list, each with its own keys", () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-repository-"));
  const configured = (yaml: string) => {
    // The key is known to the schema before anything uses it.
    const values = fileSchema.parse(JSON.parse(yaml));
    fs.writeFileSync(path.join(directory, "tidemark.yml"), "set: app\n");
    const file = readConfigFile(path.join(directory, "tidemark.yml"), {});
    return repositoriesConfig({ ...file, values }, { given: undefined, directory: "/elsewhere", own: undefined });
  };
  try {
    expect(configured('{ "repository": "backup" }')).toMatchObject([
      { place: { directory: path.join(directory, "backup") }, limits: { requests: 8 }, keep: undefined },
    ]);
    const cold = {
      path: "s3://cold/app",
      region: "eu-1",
      pathStyle: true,
      objectLock: { mode: "COMPLIANCE", days: 30 },
      limits: { upload: "5MiB", requests: 2 },
      keep: { within: "24h", daily: 30 },
    };
    const [, second] = configured(JSON.stringify({ repository: ["backup", cold] }));
    expect(second).toEqual({
      place: expect.objectContaining({ bucket: "cold", region: "eu-1", pathStyle: true }),
      limits: { uploadBytesPerSecond: 5 * 1024 * 1024, downloadBytesPerSecond: undefined, requests: 2 },
      objectLock: { mode: "COMPLIANCE", days: 30 },
      keep: { withinMs: 86_400_000, daily: 30 },
    });
    expect(refusal(() => configured('{ "repository": ["a", "./a"] }'))).toContain("twice");
    expect(refusal(() => configured('{ "repository": { "path": "a", "region": "x" } }'))).toContain("no option region");
    const locked = { path: "a", objectLock: { mode: "COMPLIANCE", days: 1 } };
    expect(refusal(() => configured(JSON.stringify({ repository: locked })))).toContain("S3 buckets");
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
});
