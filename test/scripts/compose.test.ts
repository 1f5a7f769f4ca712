import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";

import { ListObjectsV2Command } from "@aws-sdk/client-s3";
import { expect, test, vi } from "vitest";
import { comparePages } from "../support/compare.ts";
import {
  composeConfig,
  ComposeScene,
  composeServices,
  filledEnvironment,
  type Service,
} from "../support/compose-scene.ts";
import { waitFor } from "../support/wait.ts";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const ROOT = resolve(import.meta.dirname, "../..");
const read = (name: string): string => readFileSync(join(ROOT, name), "utf8");

test("docker-compose takes the file: three NATS servers, an S3 store, a primary and a standby with a repository, each of them bounded", () => {
  const services = composeServices();
  expect(Object.keys(services).toSorted()).toEqual(
    ["app", "capture", "nats-1", "nats-2", "nats-3", "reader", "replica", "s3"].toSorted(),
  );
  for (const [name, service] of Object.entries(services)) {
    const bounds = ["stop_grace_period", "mem_limit", "cpus", "pids_limit", "logging"] as const;
    expect({ name, missing: bounds.filter((key) => service[key] === undefined) }).toEqual({ name, missing: [] });
    expect({ name, restart: service.restart }).toEqual({ name, restart: "unless-stopped" });
    // Built here, or of a version that stays what it is.
    expect(service.build ? "tidemark" : service.image).toMatch(/^tidemark$|^[\w/]+:.*\d+\D\d+/);
  }
  // The image's own health check asks an agent, which only these two are.
  const byImage = Object.entries(services).filter(([, { healthcheck }]) => !healthcheck?.test);
  expect(byImage.map(([name]) => name).toSorted()).toEqual(["capture", "replica"]);
  expect(services["reader"]?.healthcheck?.test).toEqual(["NONE"]);
  // The repository is reached by whoever keeps it alone.
  const networksOf = ({ networks = [] }: Service): string[] =>
    [Array.isArray(networks) ? networks : Object.keys(networks)].flat();
  const reach = Object.entries(services).filter(([, service]) => networksOf(service).includes("store"));
  expect(reach.map(([name]) => name).toSorted()).toEqual(["replica", "s3"]);
});

test("a secret that is not filled in stops it, and none stands in the file", () => {
  const filled = filledEnvironment();
  const secrets = filled.split("\n").filter((line) => line.includes("_PASSWORD="));
  expect(secrets).toHaveLength(5);
  for (const secret of secrets) {
    const { code, stderr } = composeConfig(filled.replace(secret, secret.replace(/=.*/, "=")));
    expect({ secret, code }).not.toMatchObject({ code: 0 });
    expect(stderr).toContain("copy .env.example to .env");
  }
  expect(read(".gitignore").split("\n")).toContain(".env");
});

test("the Dockerfile copies what is there and lets through, runs as another user than root, on the Node that the scripts fetch", () => {
  const dockerfile = read("Dockerfile");
  const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.*) \S+$/gm)].flatMap(([, names = ""]) => names.split(" "));
  expect(copied.filter((name) => !existsSync(join(ROOT, name)))).toEqual([]);
  const [, ...ignored] = read(".dockerignore").split("\n");
  expect(
    ignored
      .filter((line) => line.startsWith("!"))
      .map((line) => line.slice(1))
      .toSorted(),
  ).toEqual([...new Set(copied)].toSorted());
  const [, node] = /private_node_version=(\S+)/.exec(read("scripts/setup.sh")) ?? [];
  const images = [...dockerfile.matchAll(/^FROM (\S+)/gm)].map(([, image]) => image);
  expect(new Set(images)).toEqual(new Set([`node:${node}-bookworm-slim`]));
  expect([...dockerfile.matchAll(/^USER (\S+)/gm)].map(([, user]) => user)).toEqual(["node"]);
});

test("its services, run as processes with their own commands, rights and files: what the application writes is on the standby", async () => {
  await using scene = await ComposeScene.create();
  for (const server of ["nats-1", "nats-2", "nats-3"]) scene.start(server);
  const capture = scene.start("capture");
  const app = scene.start("app");
  const replica = scene.start("replica");
  const reader = scene.start("reader");
  const arrived = (): boolean => / orders on the standby, they fit the till/.test(reader.output);
  await waitFor("orders on the standby", arrived, { timeoutMs: 60_000 }).catch((error: unknown) => {
    throw new Error(`the services said:\n${scene.outputs()}`, { cause: error });
  });
  expect([scene.health("capture"), scene.health("replica")]).toEqual([0, 0]);
  // The order of `docker compose down`: the application first.
  await app.stop();
  const orders = Number(/(\d+) orders taken/.exec(app.output)?.[1]);
  expect(orders).toBeGreaterThan(0);
  const places = [scene.place("/srv/app/app.db"), scene.place("/srv/standby/app.db")] as const;
  await waitFor("the standby to be equal", () => comparePages(...places) === undefined);
  await Promise.all([capture.stop(), replica.stop(), reader.stop()]);
  const { client, place } = scene.bucket;
  const stored = await client.send(new ListObjectsV2Command({ Bucket: place.bucket, Prefix: "app/segments/" }));
  expect(stored.KeyCount).toBeGreaterThan(0);
  expect(await Promise.all([capture.exited, replica.exited, reader.exited])).toMatchObject(
    Array.from({ length: 3 }, () => ({ code: 0 })),
  );
});
