import fs from "node:fs";

import Database from "better-sqlite3";
import { expect, test } from "vitest";

import { CliScene } from "../support/cli-scene.ts";
import { S3Bucket } from "../support/s3-server.ts";
import { SftpServer } from "../support/sftp-server.ts";
import { lastJson } from "../support/tidemark-cli.ts";

// `run` keeps a repository on another host; then everything else is gone, and `restore` has nothing but the place and the
// credentials.

interface Far extends AsyncDisposable {
  readonly url: string;
  readonly env: Readonly<Record<string, string>>;
}

const FAR = {
  S3: async (): Promise<Far> => {
    const { url, env } = await S3Bucket.make();
    return { url, env, [Symbol.asyncDispose]: async () => undefined };
  },
  SFTP: async (): Promise<Far> => {
    const server = await SftpServer.start();
    return { url: server.url, env: {}, [Symbol.asyncDispose]: async () => await server[Symbol.asyncDispose]() };
  },
};

function write(scene: CliScene, text: string): void {
  fs.writeFileSync(scene.path("uploads", `${text}.txt`), text);
  const database = new Database(scene.path("app.db"));
  database.prepare("INSERT INTO note (text) VALUES (?)").run(text);
  database.close();
}

test.concurrent.each(["S3", "SFTP"] as const)("%s: all is lost but the repository", async (kind) => {
  await using far = await FAR[kind]();
  await using scene = new CliScene();
  const { env } = far;
  scene.database();
  fs.mkdirSync(scene.path("uploads"));
  const set = ["--db", "app.db", "--files", "uploads", "--standby", "standby", "--repository", far.url];
  await using running = scene.start(["run", ...set], { env });
  await running.waitReady();
  write(scene, "in the base");
  expect((await scene.run(["base", "create", "--standby", "standby"])).code).toBe(0);
  write(scene, "after the base");
  expect((await scene.run(["sync", "--applied", "--standby", "standby"])).code).toBe(0);
  expect((await running.stop()).code).toBe(0);
  for (const name of ["app.db", "uploads", "standby", "home"])
    fs.rmSync(scene.path(name), { recursive: true, force: true });

  const restored = await scene.run(["restore", "--repository", far.url, "--target", "restored", "--json"], { env });
  expect(lastJson(restored.stdout)).toMatchObject({ ok: true, databases: [{ integrity: "ok" }], files: { count: 2 } });
  const database = new Database(scene.path("restored", "app.db"), { readonly: true });
  const texts = database.prepare("SELECT text FROM note ORDER BY id").pluck().all();
  database.close();
  expect(texts).toEqual(["first", "in the base", "after the base"]);
  expect(fs.readdirSync(scene.path("restored", "uploads"))).toEqual(["after the base.txt", "in the base.txt"]);
});
