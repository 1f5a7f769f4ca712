import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { ListMultipartUploadsCommand } from "@aws-sdk/client-s3";
import { afterAll, expect, test } from "vitest";

import type { RepositoryConfig } from "../../src/config/config.ts";
import { repositoryFromText } from "../../src/config/repository-config.ts";
import { openStore } from "../../src/repository/open-store.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { Process } from "../support/processes.ts";
import { Random } from "../support/random.ts";
import { S3Bucket } from "../support/s3-server.ts";
import { SftpServer } from "../support/sftp-server.ts";
import { waitFor } from "../support/wait.ts";
import { writtenContent } from "../support/written-content.ts";

// A process that puts objects dies by SIGKILL, life after life: what it said was there is there, whatever is there is
// whole, and what is left of the others goes when its time has come.

const WRITER = fileURLToPath(new URL("../support/store-writer-process.ts", import.meta.url));
const LIVES = 2;
/** So often it may die between two objects. */
const MOST_LIVES = 12;
const DAYS_MS = 2 * 24 * 60 * 60 * 1000;
const { signal } = new AbortController();
const scope = new AsyncDisposableStack();
afterAll(async () => await scope.disposeAsync());

interface Place {
  readonly place: RepositoryConfig["place"];
  /** Of puts that came to no end. */
  leftovers(): number | Promise<number>;
  /** As if days had passed. */
  age(): void;
}

function directoryPlace(place: RepositoryConfig["place"], directory: string): Place {
  const unfinished = path.join(directory, ".unfinished");
  const names = (): string[] => fs.readdirSync(unfinished).map((name) => path.join(unfinished, name));
  const before = (Date.now() - DAYS_MS) / 1000;
  return {
    place,
    leftovers: () => names().length,
    age: () => names().forEach((file) => fs.utimesSync(file, before, before)),
  };
}

const PLACES = {
  directory: async (): Promise<Place> => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-killed-"));
    scope.defer(() => fs.rmSync(directory, { recursive: true, force: true }));
    return directoryPlace({ kind: "directory", directory }, directory);
  },
  SFTP: async (): Promise<Place> => {
    const { place } = scope.use(await SftpServer.start());
    return directoryPlace(place, place.directory);
  },
  S3: async (): Promise<Place> => {
    const { place, client } = await S3Bucket.make();
    const list = new ListMultipartUploadsCommand({ Bucket: place.bucket });
    const leftovers = async (): Promise<number> => (await client.send(list)).Uploads?.length ?? 0;
    return { place, leftovers, age: () => undefined };
  },
};

test.concurrent.each(["directory", "SFTP", "S3"] as const)("%s: every object is whole or not there", async (kind) => {
  const random = new Random(`a writer killed at ${kind}`);
  const { place, leftovers, age } = await PLACES[kind]();
  const config: RepositoryConfig = { ...repositoryFromText("/x", { where: "test", directory: "/" }), place };
  const said: string[] = [];
  let left = 0;
  for (let life = 0; life < LIVES || (left === 0 && life < MOST_LIVES); life += 1) {
    const writer = new Process(process.execPath, [WRITER, String(life), JSON.stringify(config)]);
    const wanted = random.integer(1, 12);
    try {
      await waitFor("some objects", () => writer.output.split("\n").length > wanted, { everyMs: 2 });
    } finally {
      await writer.kill();
    }
    expect(writer.errors).toBe("");
    said.push(...writer.output.split("\n").slice(0, -1));
    left = Math.max(left, await leftovers());
  }
  const later = { now: () => systemClock.now() + DAYS_MS, monotonic: () => systemClock.monotonic() };
  await using store = (await openStore(config, later)).store;
  const names = (await Array.fromAsync(store.list("", signal))).map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(said));
  const torn: string[] = [];
  for (const name of names) if (!writtenContent(name).equals(await store.get(name, signal))) torn.push(name);
  expect(torn).toEqual([]);
  expect(left).toBeGreaterThan(0);
  age();
  await store.put("last", Buffer.from("1"), signal);
  expect(await leftovers()).toBe(0);
});
