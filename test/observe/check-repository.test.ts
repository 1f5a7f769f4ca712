import fs from "node:fs";

import { ListObjectVersionsCommand } from "@aws-sdk/client-s3";
import { expect, test } from "vitest";

import type { RepositoryConfig } from "../../src/config/config.ts";
import { repositoryFromText } from "../../src/config/repository-config.ts";
import { checkRepository, type RepositoryCheck } from "../../src/observe/check-repository.ts";
import type { Finding } from "../../src/observe/finding.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { RepositoryFixture } from "../support/repository-fixture.ts";
import { S3Bucket } from "../support/s3-server.ts";
import { SftpServer } from "../support/sftp-server.ts";

function at(place: RepositoryConfig["place"] | string): RepositoryConfig {
  const config = repositoryFromText(typeof place === "string" ? place : "/x", { where: "test", directory: "/" });
  return typeof place === "string" ? config : { ...config, place };
}

async function check(
  place: RepositoryConfig["place"] | string,
  options: Partial<RepositoryCheck> = {},
): Promise<readonly Finding[]> {
  return await checkRepository(at(place), { set: "shop", clock: systemClock, ...options });
}

const shown = (findings: readonly Finding[]): string[] => findings.map(({ severity, code }) => `${severity} ${code}`);

test("a directory: sound, another set's, or to be made, and nothing is left there", async () => {
  await using fixture = new RepositoryFixture();
  expect(await check(fixture.directory)).toMatchObject([
    { severity: "ok", message: expect.stringMatching(/can be made$/) },
  ]);
  expect(fs.existsSync(fixture.directory)).toBe(false);
  await fixture.open();
  const before = fixture.names();
  expect(shown(await check(fixture.directory))).toEqual(["ok REPOSITORY"]);
  expect(await check(fixture.directory, { set: "other" })).toMatchObject([
    { severity: "fail", code: "REPOSITORY_FOREIGN" },
  ]);
  fixture.replace("config", Buffer.from("TDMC?"));
  expect(shown(await check(fixture.directory))).toEqual(["fail REPOSITORY_VERSION"]);
  expect(fixture.names()).toEqual(before);
});

test("SFTP: rights, the clock over there, a server that nobody knows", async () => {
  await using server = await SftpServer.start();
  const [sound] = await check(server.place);
  expect(sound).toMatchObject({ severity: "ok", message: expect.stringContaining("there is none yet") });
  expect(fs.readdirSync(server.at("served"))).toEqual([".unfinished"]);
  const behind = { now: () => systemClock.now() - 3_600_000, monotonic: () => systemClock.monotonic() };
  const found = await check(server.place, { clock: behind });
  expect(shown(found)).toEqual(["ok REPOSITORY", "warn REPOSITORY_CLOCK"]);
  expect(found[1]?.message).toMatch(/is (3599|3600) s ahead of this host's$/);
  const unknown = await check({ ...server.place, knownHosts: "/dev/null" });
  expect(unknown).toMatchObject([{ severity: "fail", code: "STORE_DENIED", exitCode: 3 }]);
  await using reading = await SftpServer.start("-R");
  expect(shown(await check(reading.place))).toEqual(["fail STORE_DENIED"]);
});

test("S3: rights, wrong keys, no bucket; under a lock nothing is in the way afterwards", async () => {
  const bucket = await S3Bucket.make("lock");
  const locked: RepositoryConfig = { ...at(bucket.place), objectLock: { mode: "COMPLIANCE", days: 1 } };
  const found = await checkRepository(locked, { set: "shop", clock: systemClock });
  expect(shown(found)).toEqual(["ok REPOSITORY"]);
  const versions = await bucket.client.send(new ListObjectVersionsCommand({ Bucket: bucket.place.bucket }));
  expect([versions.Versions, versions.DeleteMarkers]).toEqual([undefined, undefined]);
  const nowhere = await check({ ...bucket.place, bucket: "nobodys-bucket" });
  expect(nowhere).toMatchObject([{ severity: "fail", code: "STORE_DENIED", hint: expect.stringContaining("bucket") }]);
  const key = process.env["AWS_SECRET_ACCESS_KEY"];
  process.env["AWS_SECRET_ACCESS_KEY"] = "not this one";
  try {
    expect(shown(await check(bucket.place))).toEqual(["fail STORE_DENIED"]);
  } finally {
    process.env["AWS_SECRET_ACCESS_KEY"] = key;
  }
});
