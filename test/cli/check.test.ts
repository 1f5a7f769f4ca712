import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";
import { expect, test, vi } from "vitest";

import { makeDataKey, wrapKey } from "../../src/keys/data-key.ts";
import { openEmbeddedLog } from "../../src/log/embedded-log.ts";
import { newIdentity } from "../support/age-identity.ts";
import { CliScene } from "../support/cli-scene.ts";
import { mark, openWriter } from "../support/log-scene.ts";
import { freePort, NatsServer } from "../support/nats-server.ts";
import { lastJson } from "../support/tidemark-cli.ts";

// Every step is a process of its own; many at once are slow on a busy machine.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

interface Finding {
  readonly severity: "ok" | "warn" | "fail";
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

interface Answer {
  readonly exit: number;
  readonly ok: unknown;
  readonly findings: readonly Finding[];
}

async function check(scene: CliScene, args: readonly string[]): Promise<Answer> {
  const { code, stdout } = await scene.run(["check", ...args, "--json"]);
  const answer = lastJson(stdout);
  return { exit: code, ok: answer["ok"], findings: answer["findings"] as Finding[] };
}

const codes = (answer: Answer, severity: Finding["severity"]): string[] =>
  answer.findings.filter((finding) => finding.severity === severity).map(({ code }) => code);

test("a sound set-up: nothing fails, nothing is made, the same disk is warned of", async () => {
  await using scene = new CliScene();
  scene.database();
  const answer = await check(scene, ["--db", "app.db", "--standby", "standby"]);
  expect({ exit: answer.exit, ok: answer.ok, fail: codes(answer, "fail"), warn: codes(answer, "warn") }).toEqual({
    exit: 0,
    ok: true,
    fail: [],
    warn: ["STANDBY_SAME_DISK"],
  });
  expect(codes(answer, "ok")).toEqual([
    "CONFIG",
    "SQLITE",
    "DATABASE",
    "DATABASE_LOCK",
    "APP_SQLITE",
    "OPEN_FILES",
    "STANDBY",
    "LOG_DIRECTORY",
    "LOG",
  ]);
  expect(fs.readdirSync(scene.directory).toSorted()).toEqual(
    ["app.db", "home"].filter((name) => fs.existsSync(scene.path(name))),
  );
});

test("too few open files for so many databases are warned of with the number; what a pattern leaves out, too", async () => {
  await using scene = new CliScene();
  for (let i = 0; i < 3; i += 1) scene.database(`tenants/${i}.db`);
  scene.database("other/0.db");
  const options = { limits: { openFiles: 120 } };
  const { code, stdout } = await scene.run(
    ["check", "--db", "tenants/*.db", "--db", "other/*.db", "--db", "no/*.db", "--standby", "standby", "--json"],
    options,
  );
  expect(code).toBe(0);
  const findings = lastJson(stdout)["findings"] as Finding[];
  const warnings = findings.filter(({ severity }) => severity === "warn");
  expect(warnings.map((finding) => finding.code)).toEqual(["PATTERN", "PATTERN", "OPEN_FILES", "STANDBY_SAME_DISK"]);
  expect(warnings.map(({ message }) => message).slice(0, 3)).toEqual([
    expect.stringContaining("other/0.db is not captured"),
    expect.stringContaining("nothing matches no/*.db yet"),
    "run with 3 databases may need 154 open files; 120 are allowed here",
  ]);
  expect(warnings[2]?.hint).toContain("LimitNOFILE=154");
});

test("file trees are counted; what cannot be captured of them is said, and one that is not there fails", async () => {
  await using scene = new CliScene();
  scene.write("uploads/2026/a.pdf", "a");
  scene.write(".env", "SECRET=1");
  execFileSync("mkfifo", [scene.path("uploads/pipe")]);
  const sound = await check(scene, ["--files", "uploads", "--files", ".env", "--standby", "standby"]);
  expect(sound.exit).toBe(0);
  const told = sound.findings.filter(({ code }) => code.startsWith("TREE"));
  expect(told.map(({ severity, code, message }) => [severity, code, message.replace(scene.path(""), "")])).toEqual([
    ["ok", "TREE", expect.stringMatching(/uploads has 1 files in 2 directories, 1 B$/)],
    ["warn", "TREE_SPECIAL", "uploads holds 1 FIFOs, sockets or devices: they are not captured"],
    ["ok", "TREE", expect.stringMatching(/\.env is a file and can be read$/)],
    ["ok", "TREE_WATCHES", expect.stringMatching(/^the trees have 2 directories; one user may watch \d+ here$/)],
  ]);
  expect(codes(sound, "ok")).toContain("STANDBY_OWNERS");
  expect(codes(sound, "warn")).toEqual(["TREE_SPECIAL", "STANDBY_SAME_DISK"]);
  const pipe = await check(scene, ["--files", "uploads/pipe", "--standby", "standby"]);
  expect(pipe.findings.find(({ severity }) => severity === "fail")?.message).toContain(
    "neither a directory nor a file",
  );
  const missing = await check(scene, ["--files", "nowhere", "--standby", "standby"]);
  expect(missing.exit).toBe(2);
  expect(missing.findings.find(({ severity }) => severity === "fail")?.code).toBe("TREE_MISSING");
});

test("trees count for the room of a copy; a root that is a link is named with what it leads to", async () => {
  await using scene = new CliScene();
  scene.write("real/large", "x".repeat(5000));
  fs.symlinkSync("real", scene.path("uploads"));
  const port = await freePort();
  scene.write(
    "tidemark.yml",
    `files: [uploads]\nlog: nats://127.0.0.1:${port}\nnats: { maxBytes: 4KiB }\nstate: state\n`,
  );
  const { findings } = await check(scene, []);
  expect(findings.find(({ code }) => code === "TREE")?.message).toContain(`uploads (which is ${scene.path("real")})`);
  expect(findings.find(({ message }) => message.includes("nats.maxBytes is"))?.message).toContain("takes 4.9 KiB");
  expect(findings.find(({ code }) => code === "STATE")?.severity).toBe("ok");
});

test("without root: what may not be read of a tree is counted, and owners are said to be lost", async () => {
  await using scene = new CliScene();
  scene.write("uploads/mine", "m");
  scene.write("uploads/closed/theirs", "t");
  fs.chmodSync(scene.path("uploads/closed"), 0o700);
  scene.write("uploads/secret", "s");
  fs.chmodSync(scene.path("uploads/secret"), 0o600);
  for (const open of ["", "uploads"]) fs.chmodSync(scene.path(open), 0o755);
  const program = path.resolve(import.meta.dirname, "../support/check-trees.ts");
  const asNobody = ["--reuid=65534", "--regid=65534", "--clear-groups", process.execPath, program];
  const said = execFileSync("setpriv", [...asNobody, scene.path("uploads"), scene.path("standby")], {
    encoding: "utf8",
  });
  const findings = JSON.parse(said) as Finding[];
  expect(findings.map(({ severity, code }) => [severity, code])).toEqual([
    ["ok", "TREE"],
    ["warn", "TREE_UNREADABLE"],
    ["ok", "TREE_WATCHES"],
    ["warn", "STANDBY_OWNERS"],
  ]);
  expect(findings[1]?.message).toContain("uploads holds 2 files or directories that this user may not read");
});

test("for people: a line a finding", async () => {
  await using scene = new CliScene();
  scene.database();
  const { code, stdout } = await scene.run(["check", "--db", "app.db", "--standby", "standby"]);
  expect(code).toBe(0);
  for (const line of stdout.trim().split("\n")) expect(line).toMatch(/^(ok {2}|warn|FAIL) {2}/);
});

test("an application with an old SQLite library is warned of", async () => {
  await using scene = new CliScene();
  const file = scene.database();
  const header = fs.readFileSync(file);
  header.writeUInt32BE(3_040_001, 96);
  fs.writeFileSync(file, header);
  const answer = await check(scene, ["--db", "app.db", "--standby", "standby"]);
  expect(answer.findings.find(({ code }) => code === "APP_SQLITE_OLD")?.message).toContain("SQLite 3.40.1");
  expect(answer.exit).toBe(0);
});

test("every database that is wrong is told, and the rest is still looked at", async () => {
  await using scene = new CliScene();
  scene.database("rollback.db", "delete");
  scene.write("letter.db", "no database at all\n".repeat(20));
  scene.database("good.db");
  const answer = await check(scene, [
    "--db",
    "rollback.db",
    "--db",
    "letter.db",
    "--db",
    "gone.db",
    "--db",
    "good.db",
    "--standby",
    "standby",
  ]);
  expect(answer).toMatchObject({ exit: 2, ok: false });
  expect(codes(answer, "fail")).toEqual(["DATABASE_NOT_WAL", "DATABASE_NOT_SQLITE", "DATABASE_MISSING"]);
  expect(codes(answer, "ok")).toContain("DATABASE");
});

test("an application that keeps everybody out", async () => {
  await using scene = new CliScene();
  const app = new Database(scene.database());
  app.pragma("locking_mode=EXCLUSIVE");
  app.exec("BEGIN IMMEDIATE; COMMIT");
  const answer = await check(scene, ["--db", "app.db", "--standby", "standby"]);
  app.close();
  expect(codes(answer, "fail")).toEqual(["DATABASE_EXCLUSIVE"]);
});

test("a wrong configuration is a finding", async () => {
  await using scene = new CliScene();
  scene.write("tidemark.yml", "databases: [app.db]\nfiels: []\n");
  const answer = await check(scene, []);
  expect(answer).toMatchObject({ exit: 2, ok: false });
  expect(answer.findings).toMatchObject([{ severity: "fail", code: "CONFIG" }]);
  await using empty = new CliScene();
  expect(await check(empty, [])).toMatchObject({ exit: 2, findings: [{ message: "there is nothing to check" }] });
});

test("a log that is not reachable makes it 3", async () => {
  await using scene = new CliScene();
  scene.database();
  const answer = await check(scene, [
    "--db",
    "app.db",
    "--log",
    `nats://127.0.0.1:${await freePort()}`,
    "--state",
    "state",
  ]);
  expect(answer.exit).toBe(3);
  expect(codes(answer, "fail")).toEqual(["LOG_UNREACHABLE"]);
});

test("a NATS log: no stream yet, then what its acknowledgements are worth", async () => {
  await using server = await NatsServer.start();
  await using scene = new CliScene();
  scene.database();
  const args = ["--db", "app.db", "--log", `nats://${server.address}`, "--state", "state"];
  const fresh = await check(scene, args);
  expect(fresh).toMatchObject({ exit: 0, ok: true });
  const capture = scene.start(["capture", ...args]);
  await capture.waitReady();
  const answer = await check(scene, args);
  expect(answer.exit).toBe(0);
  expect(answer.findings.find(({ code }) => code === "LOG_DURABILITY")?.message).toContain("sync_interval");
});

test("places that cannot be written, and a limit below one copy", async () => {
  await using scene = new CliScene();
  scene.database();
  scene.write("occupied", "a file");
  const standby = await check(scene, ["--db", "app.db", "--standby", "occupied/standby"]);
  expect(standby.exit).toBe(2);
  expect(standby.findings.find(({ severity }) => severity === "fail")?.message).toContain("occupied is no directory");
  scene.write(
    "tidemark.yml",
    `databases: [app.db]\nlog: nats://127.0.0.1:${await freePort()}\nnats: { maxBytes: 1KiB }\nstate: state\n`,
  );
  const log = await check(scene, []);
  expect(codes(log, "fail")).toEqual(["CONFIG", "LOG_UNREACHABLE"]);
});

test("encryption: recipients, who may read the identity, and whether a standby can open the log", async () => {
  await using scene = new CliScene();
  const [ann, bob] = [await newIdentity(), await newIdentity()];
  scene.write("identity.txt", ann.identity);
  const config = (recipients: string): void =>
    void scene.write(
      "tidemark.yml",
      `set: app\nlog: embedded:log\nstandby: standby\nencryption: { identity: identity.txt, recipients: [${recipients}] }`,
    );
  config(ann.recipient);
  expect(codes(await check(scene, []), "warn")).toEqual(expect.arrayContaining(["ENCRYPTION_ONE", "IDENTITY_OPEN"]));
  fs.chmodSync(scene.path("identity.txt"), 0o600);
  config(`${ann.recipient}, ${bob.recipient.slice(0, -1)}`);
  const mistyped = (await check(scene, [])).findings.find(({ severity }) => severity === "fail");
  expect(mistyped?.message).toContain("it has a typing error");
  config(`${ann.recipient}, ${bob.recipient}`);
  await writeEncryptedLog(scene.path("log"), bob.recipient);
  const wrong = await check(scene, []);
  expect({ exit: wrong.exit, fail: codes(wrong, "fail") }).toEqual({ exit: 2, fail: ["KEY_WRONG"] });
  scene.write("identity.txt", bob.identity);
  const right = await check(scene, []);
  expect(codes(right, "fail")).toEqual([]);
  expect(codes(right, "ok")).toEqual(expect.arrayContaining(["ENCRYPTION", "IDENTITY", "KEY"]));
});

async function writeEncryptedLog(directory: string, recipient: string): Promise<void> {
  await using log = await openEmbeddedLog({ directory, set: "app", mode: "write" });
  const key = makeDataKey();
  const writer = await openWriter(log, { key: { key, wrapped: await wrapKey(key, [recipient]) } });
  writer.append([mark("secret")]);
  await writer.flush();
}
