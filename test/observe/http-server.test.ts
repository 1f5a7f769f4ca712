import fs from "node:fs";
import net from "node:net";
import path from "node:path";

import Database from "better-sqlite3";
import { expect, test, vi } from "vitest";

import { Deployment } from "../support/deployment.ts";
import { waitFor } from "../support/wait.ts";

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Name with labels to value, as a scraper reads a page. */
function samplesOf(page: string): Map<string, number> {
  const lines = page.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))]),
  );
}

test("an agent tells what it knows of databases and files to a scraper, and whether it is well to whoever balances", async () => {
  const port = await freePort();
  await using scene = new Deployment({
    trees: ["{ path: app/uploads, name: uploads }"],
    config: `http: { listen: "127.0.0.1:${port}" }`,
  });
  const uploads = scene.pathOf("uploads");
  new Database(scene.database).exec("PRAGMA journal_mode=WAL; CREATE TABLE t (a)").close();
  fs.mkdirSync(uploads);
  fs.writeFileSync(path.join(uploads, "one"), "12345");
  const agent = await scene.start("run");
  const ask = async (place: string, method = "GET"): Promise<{ status: number; text: string }> => {
    const response = await fetch(`http://127.0.0.1:${port}${place}`, { method });
    return { status: response.status, text: await response.text() };
  };
  await waitFor("everything to run", async () => (await ask("/readyz")).status === 200);
  expect(await ask("/healthz")).toEqual({ status: 200, text: "ok\n" });
  expect([(await ask("/primary")).status, (await ask("/replica")).status]).toEqual([200, 200]);
  expect([(await ask("/")).status, (await ask("/metrics", "POST")).status]).toEqual([404, 405]);

  fs.writeFileSync(path.join(uploads, "two"), "1234567");
  await scene.answer("sync", "--applied");
  const samples = samplesOf((await ask("/metrics")).text);
  const tree = `{tree="uploads",set="e2e"}`;
  expect(samples.get(`tidemark_tree_files${tree}`)).toBe(2);
  expect(samples.get(`tidemark_tree_bytes${tree}`)).toBe(12);
  expect(samples.get(`tidemark_tree_following${tree}`)).toBe(1);
  for (const name of ["dirty", "pending_bytes", "rescans_total", "unstable_reads_total", "halted"])
    expect([name, samples.has(`tidemark_tree_${name}${tree}`)]).toEqual([name, true]);
  expect(samples.get(`tidemark_standby_tree_files${tree}`)).toBe(2);
  expect(samples.get(`tidemark_database_protected{database="app.db",set="e2e"}`)).toBe(1);
  expect(samples.get(`tidemark_standby_offset{set="e2e"}`)).toBe(samples.get(`tidemark_log_last_offset{set="e2e"}`));
  expect(samples.get(`tidemark_rpo_ok{set="e2e"}`)).toBe(1);

  // An emptied tree halts: the scraper sees it, and the balancer.
  fs.rmSync(uploads, { recursive: true });
  await waitFor(
    "the halt to show",
    async () => samplesOf((await ask("/metrics")).text).get(`tidemark_tree_halted${tree}`) === 1,
  );
  const ready = await ask("/readyz");
  expect(ready).toMatchObject({ status: 503, text: expect.stringContaining("files of uploads") as string });
  expect((await agent.stop()).code).toBe(0);
});

test("an address that is taken stops the agent before it does anything, and names the key", async () => {
  await using taken = await listening();
  await using scene = new Deployment({ config: `http: { listen: "127.0.0.1:${taken.port}" }` });
  new Database(scene.database).exec("PRAGMA journal_mode=WAL; CREATE TABLE t (a)").close();
  const { code, stderr } = await scene.launch("run").exited;
  expect(code).toBe(2);
  expect(stderr).toContain(`http.listen: 127.0.0.1:${taken.port} cannot be listened on (EADDRINUSE)`);
});

async function listening(): Promise<AsyncDisposable & { readonly port: number }> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  return { port, [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())) };
}
