import fs from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import { type AgeIdentity, newIdentity, readerEnvironment } from "../support/age-identity.ts";
import { SqlSession } from "../support/apps/sql-session.ts";
import { comparePages } from "../support/compare.ts";
import { CrashScene } from "../support/crash/crash-scene.ts";
import { pointsOf } from "../support/crash/scenes.ts";
import { Deployment } from "../support/deployment.ts";
import { NatsServer } from "../support/nats-server.ts";
import { SECRETS, secretsIn, writeSecrets } from "../support/secrets.ts";
import { lastJson, runTidemark } from "../support/tidemark-cli.ts";

const TREES = "files: [{ path: app/uploads, name: uploads }]";
const ann = await newIdentity();
const bob = await newIdentity();

const encryptedFor = (...people: readonly AgeIdentity[]): string =>
  `${TREES}\nencryption: { recipients: [${people.map(({ recipient }) => recipient).join(", ")}] }`;

/** The primary's own configuration, and what `age-keygen` made somewhere else. */
function deploymentFor(people: readonly AgeIdentity[], more: { readonly nats?: string } = {}): Deployment {
  return new Deployment({ ...more, config: people.length === 0 ? TREES : encryptedFor(...people) });
}

async function secretsWritten(deployment: Deployment): Promise<void> {
  const { database } = deployment;
  await writeSecrets({ database, pathOf: (name) => deployment.pathOf(name) }, "uploads");
}

function command(deployment: Deployment, person: AgeIdentity | undefined, ...words: string[]) {
  const env = person ? readerEnvironment(person) : { TIDEMARK_IDENTITY: undefined };
  return runTidemark([...words, "-c", deployment.configFile, "--json"], { env });
}

/** Reads with an identity; the primary has none. */
async function standbyIsEqual(deployment: Deployment, person: AgeIdentity): Promise<void> {
  const env = readerEnvironment(person);
  await using replica = deployment.launchWith({ env }, "replica");
  await replica.waitReady();
  expect(await deployment.difference()).toBeUndefined();
  expect(await deployment.treeDifference("uploads")).toBe("");
  expect((await replica.stop()).code).toBe(0);
}

test("what stands in the log in the clear is found without a key, and not with one: embedded", async () => {
  await using plain = deploymentFor([]);
  await using secret = deploymentFor([ann, bob]);
  for (const deployment of [plain, secret]) {
    await secretsWritten(deployment);
    await using capture = await deployment.start("capture");
    await secretsWritten(deployment);
    for (const more of ["", "-2", "-3"]) await deployment.answer("mark", `${SECRETS.mark}${more}`);
    await deployment.sync({ applied: false });
    expect((await capture.stop()).code).toBe(0);
  }
  expect(secretsIn([plain.logDirectory]).toSorted()).toEqual(Object.values(SECRETS).toSorted());
  expect(secretsIn([secret.logDirectory], [ann.identity, "app.db"])).toEqual([]);
  // The primary's own state knows paths of its own files, but no private key, and is for its owner alone.
  expect(secretsIn([secret.state], [ann.identity]).filter((one) => one === ann.identity)).toEqual([]);
  expect(fs.statSync(path.join(secret.state, "keys.json")).mode & 0o777).toBe(0o600);
});

test("nor in the store of a NATS server", async () => {
  await using server = await NatsServer.start();
  await using deployment = deploymentFor([ann], { nats: server.address });
  await secretsWritten(deployment);
  await using capture = await deployment.start("capture");
  await deployment.answer("mark", SECRETS.mark);
  await deployment.sync({ applied: false });
  await standbyIsEqual(deployment, ann);
  expect((await capture.stop()).code).toBe(0);
  await server.kill();
  expect(secretsIn([server.storeDirectory])).toEqual([]);
});

test("a primary with public keys alone goes on after a restart and a kill, without another copy", async () => {
  await using deployment = deploymentFor([ann]);
  await secretsWritten(deployment);
  expect((await (await deployment.start("capture")).stop()).code).toBe(0);
  await using first = await deployment.start("capture");
  await using app = new SqlSession(deployment.database);
  await app.run("INSERT INTO secret (body) VALUES (randomblob(5000))");
  await deployment.sync({ applied: false });
  await first.kill9();
  await app.run("INSERT INTO secret (body) VALUES (randomblob(5000))");
  await using second = await deployment.start("capture");
  fs.writeFileSync(deployment.pathOf("uploads/twin"), fs.readFileSync(deployment.pathOf("uploads/large")));
  await deployment.sync({ applied: false });
  await standbyIsEqual(deployment, ann);
  expect((await second.stop()).code).toBe(0);
  const { stdout } = await command(deployment, ann, "log");
  const events = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { kind: string; bytes: number; name: string });
  expect(events.filter(({ kind }) => kind === "key").length).toBe(3);
  // A second copy of the database or of the large file would be half a megabyte and more.
  const late = events.slice(events.findLastIndex(({ kind }) => kind === "key"));
  expect(late.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThan(200_000);
});

test("other recipients: a new key for what comes; the old one opens what was before, and leaves the primary", async () => {
  await using deployment = deploymentFor([ann, bob]);
  await secretsWritten(deployment);
  // A stop stores what the log holds of the database: one that dies right after its first copy knows nothing of it, and copies again.
  expect((await (await deployment.start("capture")).stop()).code).toBe(0);
  await using first = await deployment.start("capture");
  await first.kill9();
  const config = fs.readFileSync(deployment.configFile, "utf8");
  const keys = (): { current: { id: string }; previous: unknown[]; nameKey: string } =>
    JSON.parse(fs.readFileSync(path.join(deployment.state, "keys.json"), "utf8"));
  const before = keys();
  fs.writeFileSync(deployment.configFile, config.replace(`, ${bob.recipient}`, ""));
  await using second = await deployment.start("capture");
  const { key } = await deployment.answer("key", "rotate");
  expect([keys().current.id, keys().nameKey]).toEqual([key, before.nameKey]);
  expect(keys().previous.length).toBe(2);
  await secretsWritten(deployment);
  await deployment.sync({ applied: false });
  await second.kill9();
  // Read back with the keys of the past, then done without them.
  expect((await (await deployment.start("capture")).stop()).code).toBe(0);
  await using capture = await deployment.start("capture");
  expect(keys().previous).toEqual([]);
  await standbyIsEqual(deployment, ann);
  expect((await capture.stop()).code).toBe(0);
  const listed = await runTidemark(["log", "-c", deployment.configFile], { env: readerEnvironment(ann) });
  expect(listed.stdout.match(/\(copy\)/g)?.length).toBe(1);
  const forBob = await command(deployment, bob, "restore", "--target", path.join(deployment.directory, "bob"));
  expect(lastJson(forBob.stderr)).toMatchObject({ ok: false, code: "KEY_WRONG" });
});

test("without the identity nothing is applied or restored, and it is said whose it takes", async () => {
  await using deployment = deploymentFor([ann]);
  await secretsWritten(deployment);
  await using capture = await deployment.start("capture");
  await deployment.sync({ applied: false });
  for (const [person, code] of [
    [undefined, "KEY_MISSING"],
    [bob, "KEY_WRONG"],
  ] as const) {
    const target = path.join(deployment.directory, `target-${code}`);
    for (const words of [
      ["replica", "--reseed"],
      ["restore", "--target", target],
    ]) {
      const { code: exit, stderr } = await command(deployment, person, ...words);
      expect([words[0], exit, lastJson(stderr)["code"]]).toEqual([words[0], 2, code]);
      expect(String(lastJson(stderr)["hint"])).toContain(ann.recipient);
      expect(stderr).not.toContain("AGE-SECRET");
    }
    expect(fs.existsSync(target)).toBe(false);
    expect(fs.existsSync(deployment.standbyDatabase)).toBe(false);
  }
  const listed = await command(deployment, undefined, "log");
  expect(listed.stdout).toContain('"kind":"sqlite.commit","name":"(encrypted)"');
  expect(listed.code).toBe(0);
  const target = path.join(deployment.directory, "restored");
  const restored = await command(deployment, ann, "restore", "--target", target);
  expect(restored.stderr).toBe("");
  expect(comparePages(deployment.database, path.join(target, "app.db"))).toBeUndefined();
  expect(fs.readFileSync(path.join(target, "uploads/large"))).toEqual(
    fs.readFileSync(deployment.pathOf("uploads/large")),
  );
  expect((await capture.stop()).code).toBe(0);
});

test("nor in a repository; the primary's own process writes it without an identity, who has one reads it", async () => {
  await using plain = new Deployment({ config: `${TREES}\nrepository: repository` });
  await using secret = new Deployment({ config: `${encryptedFor(ann)}\nrepository: repository` });
  for (const deployment of [plain, secret]) {
    await secretsWritten(deployment);
    await using first = await deployment.start("run");
    await deployment.answer("mark", SECRETS.mark);
    await deployment.answer("base", "create");
    await first.kill9();
  }
  await using second = await secret.start("run");
  await secretsWritten(secret);
  await secret.answer("base", "create");
  expect((await second.stop()).code).toBe(0);
  const found = (deployment: Deployment): string[] => secretsIn([path.join(deployment.directory, "repository")]);
  expect(found(plain).length).toBeGreaterThan(2);
  expect(found(secret)).toEqual([]);
  // Anywhere but on the primary, which has its own keys.
  const elsewhere = ["bases", "--state", path.join(secret.directory, "elsewhere")];
  expect((await command(secret, undefined, ...elsewhere)).stderr).toContain("KEY_MISSING");
  expect((await command(secret, bob, ...elsewhere)).stderr).toContain("KEY_WRONG");
  const { bases } = lastJson((await command(secret, ann, ...elsewhere)).stdout) as { bases: unknown[] };
  expect(bases.length).toBeGreaterThan(1);
  // On a machine that has nothing but the repository and the identity.
  const repository = path.join(secret.directory, "repository");
  const target = path.join(secret.directory, "from-repository");
  const words = ["restore", "--repository", repository, "--no-log", "--target", target, "--json"];
  const alone = (person: AgeIdentity | undefined) =>
    runTidemark(words, { env: person ? readerEnvironment(person) : {}, cwd: plain.directory });
  expect(lastJson((await alone(bob)).stderr)["code"]).toBe("KEY_WRONG");
  expect(fs.existsSync(target)).toBe(false);
  expect(await alone(ann)).toMatchObject({ code: 0 });
  expect(comparePages(secret.database, path.join(target, "app.db"))).toBeUndefined();
  expect(fs.readFileSync(path.join(target, "uploads/large"))).toEqual(fs.readFileSync(secret.pathOf("uploads/large")));
});

for (const point of pointsOf("encrypted")) {
  test(`${point}: killed there, the next start goes on`, async () => {
    await using scene = new CrashScene({ config: `encryption: { recipients: [${ann.recipient}] }` });
    await scene.createDatabase();
    scene.order(point);
    scene.launch();
    await scene.diesOf(point, async () => new Promise((resolve) => void setTimeout(resolve, 50)));
    await scene.goesOn();
    await scene.stop();
  });
}
