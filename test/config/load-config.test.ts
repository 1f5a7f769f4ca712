import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { readConfigFile } from "../../src/config/config-file.ts";
import { configFileOf, type Flags, loadConfig, type LoadOptions, loadSettings } from "../../src/config/load-config.ts";
import { storeLocation } from "../../src/repository/store-location.ts";
import { TidemarkError } from "../../src/runtime/errors.ts";

let directory = "";
beforeEach(() => {
  directory = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-config-")));
});
afterEach(() => fs.rmSync(directory, { recursive: true }));

const at = (...names: string[]): string => path.join(directory, ...names);

function options(flags: Flags, more: Partial<LoadOptions> = {}): LoadOptions {
  const given = { role: "run", flags, environment: { HOME: at("home") }, directory, ...more } as const;
  const place = configFileOf(given);
  return { ...given, file: place === undefined ? undefined : readConfigFile(place, given.environment) };
}

function file(text: string, name = "tidemark.yml"): string {
  fs.writeFileSync(at(name), text);
  return at(name);
}

function refusal(load: () => unknown): { message: string; hint: string } {
  try {
    load();
  } catch (error) {
    if (error instanceof TidemarkError && error.code === "CONFIG") return { message: error.message, hint: error.hint };
    throw error;
  }
  throw new Error("was not refused");
}

const refusedFile = (text: string, more: Partial<LoadOptions> = {}) =>
  refusal(() => loadSettings(options({ config: file(text) }, { role: "client", ...more })));

test("flags alone make a whole configuration, with the log and the state on the standby's disk", () => {
  const config = loadConfig(options({ db: ["data/My app.db"], standby: "standby" }));
  expect(config).toMatchObject({
    set: "My-app",
    databases: [{ path: at("data/My app.db"), name: "My app.db" }],
    log: { kind: "embedded", directory: at("standby/.tidemark/log") },
    standby: at("standby"),
    state: at("standby/.tidemark"),
    capture: {
      granularity: "adaptive",
      sealBytes: 16 * 1024 ** 2,
      walMaxBytes: 1024 ** 3,
      heartbeatMs: 10_000,
      setWal: false,
      scrub: { everyMs: 24 * 60 * 60 * 1000, bytesPerSecond: 16 * 1024 ** 2 },
    },
    replica: {
      checkpointBytes: 8 * 1024 ** 2,
      walMaxBytes: 256 * 1024 ** 2,
      scrub: { everyMs: 24 * 60 * 60 * 1000, bytesPerSecond: 16 * 1024 ** 2 },
    },
    objectives: { rpoMs: 60_000 },
  });
});

test("nothing can be changed afterwards", () => {
  const config = loadConfig(options({ db: ["app.db"], standby: "standby" }));
  expect([config, config.databases, config.databases[0], config.capture, config.log].every(Object.isFrozen)).toBe(true);
});

test("the file's paths count from the file, flags go before it", () => {
  fs.mkdirSync(at("etc"));
  const config = file(
    [
      "set: shop",
      "databases: [{ path: ../app.db, name: main.db }, other.db]",
      "log: embedded:log",
      "standby: { path: /srv/standby, checkpoint: 1MiB, walMax: 64MiB }",
      "state: state",
      "wal: { max: 2GiB, seal: 32MiB }",
      "heartbeat: 2s",
      "granularity: commit",
      "copyRate: 100MiB",
      "scrub: 7d",
      "scrubRate: 1MiB",
      "objectives: { rpo: 5s }",
    ].join("\n"),
    "etc/tidemark.yml",
  );
  expect(loadConfig(options({ config, standby: "here", setWal: true }))).toMatchObject({
    set: "shop",
    databases: [
      { path: at("app.db"), name: "main.db" },
      { path: at("etc/other.db"), name: "other.db" },
    ],
    log: { directory: at("etc/log") },
    standby: at("here"),
    state: at("etc/state"),
    capture: {
      granularity: "commit",
      sealBytes: 32 * 1024 ** 2,
      walMaxBytes: 2 * 1024 ** 3,
      heartbeatMs: 2000,
      copyBytesPerSecond: 100 * 1024 ** 2,
      setWal: true,
      scrub: { everyMs: 7 * 24 * 60 * 60 * 1000, bytesPerSecond: 1024 ** 2 },
    },
    replica: { checkpointBytes: 1024 ** 2, walMaxBytes: 64 * 1024 ** 2 },
    objectives: { rpoMs: 5000 },
  });
});

test("scrub: off", () => {
  const { capture, replica } = loadSettings(options({ config: file("scrub: off") }, { role: "client" }));
  expect([capture.scrub.everyMs, replica.scrub.everyMs]).toEqual([undefined, undefined]);
  for (const given of ["no", "0s", "24"]) expect(refusedFile(`scrub: ${given}`).message).toContain(", or off");
});

test("./tidemark.yml is read when there is one", () => {
  expect(loadSettings(options({}, { role: "client" })).file).toBeUndefined();
  file("set: found");
  expect(loadSettings(options({}, { role: "client" }))).toMatchObject({ set: "found", file: at("tidemark.yml") });
});

test("variables of the environment are put into values", () => {
  file("set: ${NAME}-${NAME}\nstandby: /srv/$${x}\n");
  const settings = loadSettings(options({}, { role: "client", environment: { NAME: "a: b" }, flags: { set: "s" } }));
  expect(settings.standby).toBe("/srv/${x}");
  expect(loadSettings(options({}, { role: "client", environment: { NAME: "x" } })).set).toBe("x-x");
});

test("a variable that is not set is named, with its place", () => {
  const { message, hint } = refusedFile("set: app\nlog: nats://${WHO}@host\n");
  expect(message).toBe(`${at("tidemark.yml")}:2: log: the environment variable "WHO" is not set`);
  expect(hint).toContain("$${");
});

test.each([
  ["databses: []", "tidemark.yml:1: databses: there is no such key; did you mean databases?"],
  [
    "set: a\nnats:\n  credntials: x",
    "tidemark.yml:3: nats.credntials: there is no such key; did you mean credentials?",
  ],
  [
    "databases:\n  - path: a.db\n    nam: b",
    "tidemark.yml:3: databases[0].nam: there is no such key; did you mean name?",
  ],
  ["wal: { maximum: 1GiB }", "tidemark.yml:1: wal.maximum: there is no such key"],
  ["zebra: 1", "tidemark.yml:1: zebra: there is no such key"],
])("an unknown key is refused with the nearest known name: %j", (text, message) => {
  const refused = refusedFile(text);
  expect(refused.message).toContain(message);
  expect(refused.hint).toMatch(/^Known here: /);
});

test.each([
  ["wal:\n  max: lots", 'tidemark.yml:2: wal.max: "lots" is no size'],
  ["heartbeat: 10", "tidemark.yml:1: heartbeat: 10 is no duration; write it with a unit"],
  ["granularity: page", 'granularity: "page" is none of adaptive, commit'],
  ["set: 12", "set: 12 is a number where a text is expected; put it in quotes"],
  ["databases: app.db", 'databases: "app.db" is a text where a list is expected'],
  ["databases: [{ name: x }]", "databases[0].path: is missing"],
  ["databases: [3]", "databases[0]: 3 is a number, which is not possible here"],
  ["nats: { replicas: 9 }", "nats.replicas: 9 is no whole number from 1 to 5"],
  ["set: a\nset: b", "tidemark.yml:2:1: this is no valid YAML: Map keys must be unique"],
  ["set: [a", "this is no valid YAML"],
  ["- a", "is a list where a group of keys is expected"],
  ["wal: { seal: 2GiB }", "tidemark.yml:1: wal: seal (2147483648 bytes) is larger than max"],
  ["standby: { path: a, checkpoint: 1GiB }", "checkpoint (1073741824 bytes) is larger than walMax"],
  ["fence: sometimes", 'tidemark.yml:1: fence: "sometimes" is a text, which is not possible here'],
  ["fence: hook", "tidemark.yml:1: fence: hook leaves it to hooks.onFence"],
  ["hooks: { onFence: [a] }\nfence: { mode: hook, after: 1m }", "fence.after: is of use with mode: lock only"],
  ["nats: { password: [1] }", "nats.password: (not shown) is a list where a text is expected"],
])("a wrong value is named with its place: %j", (text, message) => {
  expect(refusedFile(text).message).toContain(message);
});

test.each(["classes", "alerts"])("%s belongs to a later version, and is never ignored", (key) => {
  expect(refusedFile(`set: a\n${key}: whatever`).message).toContain(
    `tidemark.yml:2: ${key}: the key ${key} is not available in this version`,
  );
});

test("repositories: one or a list, in the file or as flags, which replace the file's; each once", () => {
  const places = (text: string, flags: Flags = {}): string[] => {
    fs.writeFileSync(at("tidemark.yml"), `set: a\n${text}`);
    return loadSettings(options(flags, { role: "client" })).repositories.map(({ place }) => storeLocation(place));
  };
  expect(places("")).toEqual([]);
  expect(places("repository: backup")).toEqual([at("backup")]);
  expect(places("repository: [/mnt/hot, { path: cold }]")).toEqual(["/mnt/hot", at("cold")]);
  expect(places("repository: backup", { repository: ["other"] })).toEqual([at("other")]);
  expect(refusedFile("repository: [backup, ./backup]").message).toContain(`${at("backup")} is given twice`);
  expect(refusedFile("repository: ftp://user:secret@host/a").message).toContain("ftp://***@host/a");
  expect(refusedFile("base: { every: never }").message).toContain("base.every");
});

const PUBLIC = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
const PRIVATE = "AGE-SECRET-KEY-1NOTONETHATANYBODYHASEVERUSEDFORANYTHINGATALL";

test("encryption: public keys, and where the identity is; the environment goes before the file", () => {
  const text = `set: a\nencryption: { recipients: [${PUBLIC}, ${PUBLIC}], identity: id.txt }`;
  const load = (environment: Record<string, string>) =>
    loadSettings(options({ config: file(text) }, { role: "client", environment })).encryption;
  expect(load({})).toEqual({ recipients: [PUBLIC], identity: { kind: "file", path: at("id.txt") }, asked: true });
  const own = { kind: "text", text: PRIVATE, variable: "TIDEMARK_IDENTITY" };
  expect(load({ TIDEMARK_IDENTITY: ` ${PRIVATE}\n` }).identity).toEqual(own);
  expect(load({ TIDEMARK_IDENTITY: "/etc/id.txt" }).identity).toEqual({ kind: "file", path: "/etc/id.txt" });
});

test.each([
  [`encryption: { recipients: [${PRIVATE}] }`, "recipients[0]: this is a private key"],
  [`encryption: { identity: ${PRIVATE} }`, "encryption.identity: this is a private key"],
  ["encryption: { recipients: [age1UPPER] }", '"age1UPPER" is no public key of age'],
  ["encryption: { recipients: [] }", "must be 1 to 32 public keys"],
  ["encryption: { recipients: age1abc }", "encryption.recipients: (not shown) is a text where a list is expected"],
  [`encryption: { recipients: ${PRIVATE} }`, "(not shown)"],
])("encryption that would not work is refused, and no private key is shown: %s", (text, message) => {
  const refused = refusedFile(text);
  expect(refused.message).toContain(message);
  expect(`${refused.message} ${refused.hint}`).not.toContain(PRIVATE);
});

test("who writes needs public keys; who reads does not", () => {
  const config = file("databases: [a.db]\nstandby: b\nencryption: { identity: id.txt }");
  expect(refusal(() => loadConfig(options({ config }))).message).toContain("there are no recipients");
  expect(loadSettings(options({ config }, { role: "client" })).encryption.recipients).toEqual([]);
});

test("so are the tokens of an HTTP interface that only tells", () => {
  expect(refusedFile("http: { listen: 127.0.0.1:9470, tokens: a.yml }").message).toContain(
    "http.tokens is not available",
  );
});

test.each(["9470", "localhost", "host:0", "host:70000", "::1:9470", "http://host:1", ""])(
  "%j is no address to listen on",
  (text) => {
    expect(refusedFile(`http: { listen: ${JSON.stringify(text)} }`).message).toMatch(/tidemark\.yml:1: http\.listen/);
  },
);

test("a replaced primary is locked unless the file says otherwise", () => {
  const fenceOf = (text: string): unknown => loadSettings(options({ config: file(text) }, { role: "client" })).fence;
  expect(fenceOf("set: a")).toEqual({ mode: "lock", afterMs: undefined });
  expect(fenceOf("fence: none")).toEqual({ mode: "none", afterMs: undefined });
  expect(fenceOf("fence: { after: 5m }")).toEqual({ mode: "lock", afterMs: 300_000 });
});

test("so is an objective that nothing measures yet", () => {
  expect(refusedFile("objectives: { rpo: 60s, rto: 30m }").message).toContain("objectives.rto is not available");
});

test.each(["a.b", "a b", "", "*", ">", "ä", "x".repeat(65)])("%j is no set name", (name) => {
  const { message, hint } = refusal(() => loadSettings(options({ set: name }, { role: "client" })));
  expect(message).toMatch(/^--set: .* is no set name/);
  expect(hint).toContain("1 to 64 letters");
});

test("globs are expanded, without SQLite's own files beside a database", () => {
  for (const name of ["b.db", "a.db", "a.db-wal", "a.db-shm"]) {
    fs.mkdirSync(at("tenants"), { recursive: true });
    fs.writeFileSync(at("tenants", name), "");
  }
  const config = loadConfig(options({ db: ["tenants/*"], standby: "standby" }));
  expect(config.databases.map(({ name }) => name)).toEqual(["a.db", "b.db"]);
  expect(config.patterns.map(({ pattern }) => pattern)).toEqual(["tenants/*"]);
  // Not after the file that happens to come first.
  expect(config.set).toBe("tenants");
});

test("a glob without a match is kept: its databases may come", () => {
  const config = loadConfig(options({ db: ["tenants/*.db"], standby: "standby" }));
  expect(config.databases).toEqual([]);
  expect(config.patterns).toMatchObject([{ pattern: "tenants/*.db", where: '--db "tenants/*.db"' }]);
});

test("what a glob finds gives way: to a listed database, to the standby's own files, to the first of a name", () => {
  for (const given of ["a/x.db", "b/x.db", "b/y.db", "b/standby/x.db"]) {
    fs.mkdirSync(path.dirname(at(given)), { recursive: true });
    fs.writeFileSync(at(given), "");
  }
  const config = loadConfig(options({ db: ["*/x.db", "b/**/*.db", "b/y.db=main.db"], standby: "b/standby" }));
  expect(config.databases).toEqual([
    { path: at("b/y.db"), name: "main.db" },
    { path: at("a/x.db"), name: "x.db", byPattern: true },
  ]);
});

test("two databases of one name are refused, with the way out", () => {
  const { message, hint } = refusal(() => loadConfig(options({ db: ["a/app.db", "b/app.db"], standby: "standby" })));
  expect(message).toContain(`${at("a/app.db")} and ${at("b/app.db")} would both be called "app.db"`);
  expect(hint).toContain(`--db ${at("b/app.db")}=NAME`);
  expect(loadConfig(options({ db: ["a/app.db", "b/app.db=b.db"], standby: "standby" })).databases[1]?.name).toBe(
    "b.db",
  );
});

test.each(["../x.db", "/x.db", "a//b", ".tidemark/x", "app.db-wal", "a/./b", "x\\y"])(
  "a database cannot be called %j",
  (name) => {
    expect(refusal(() => loadConfig(options({ db: [`app.db=${name}`], standby: "standby" }))).message).toContain(
      "cannot name a database",
    );
  },
);

test("a name under another database's name is refused", () => {
  expect(refusal(() => loadConfig(options({ db: ["a.db=x", "b.db=x/y"], standby: "standby" }))).message).toContain(
    'lies under "x"',
  );
});

test("the same database twice is refused, through links too", () => {
  fs.writeFileSync(at("app.db"), "");
  fs.symlinkSync(at("app.db"), at("link.db"));
  expect(refusal(() => loadConfig(options({ db: ["app.db", "link.db"], standby: "standby" }))).message).toContain(
    "are the same database",
  );
});

test("the standby may not lie over the application's database", () => {
  fs.mkdirSync(at("data"));
  fs.symlinkSync(at("data"), at("linked"));
  const { message } = refusal(() => loadConfig(options({ db: ["data/app.db"], standby: "linked" })));
  expect(message).toContain(`in the very place of ${at("data/app.db")}`);
});

test.each([
  ["run", { standby: "s" }, "needs a database"],
  ["run", { db: ["app.db"] }, "needs a directory for the standby"],
  ["capture", { db: ["app.db"] }, "does not know where the log is"],
  ["capture", { log: "embedded:l" }, "needs a database"],
  ["replica", { standby: "s", set: "a" }, "does not know where the log is"],
  ["replica", { standby: "s", log: "nats://h" }, "needs the name of the set"],
] as const)("%s with %j: %s", (role, flags, message) => {
  const { message: said, hint } = refusal(() => loadConfig(options(flags, { role })));
  expect(said).toContain(message);
  expect(hint).toContain("--");
});

test("an embedded log tells the set to a host that knows nothing else", () => {
  const settings = loadSettings(
    options(
      { standby: "s" },
      { role: "client", setOfLog: ({ directory: log }) => (log === at("s/.tidemark/log") ? "found" : undefined) },
    ),
  );
  expect(settings.set).toBe("found");
});

test("the state of a capture lies where the host keeps state", () => {
  const state = loadConfig(options({ db: ["app.db"], log: "embedded:l" }, { role: "capture" })).state;
  const root = process.geteuid?.() === 0;
  expect(state).toBe(root ? "/var/lib/tidemark/app" : at("home/.local/state/tidemark/app"));
});

test("secrets come from the flag, the environment, the file, in this order", () => {
  file("set: a\nlog: nats://file:one@h\nnats: { replicas: '3', maxBytes: 50GiB }");
  const environment = { TIDEMARK_NATS_USER: "env", TIDEMARK_NATS_PASSWORD: "two" };
  const load = (flags: Flags, env = {}) => loadSettings(options(flags, { role: "client", environment: env })).log;
  expect(load({})).toMatchObject({
    user: "file",
    password: "one",
    replicas: 3,
    maxBytes: 50 * 1024 ** 3,
    tls: undefined,
  });
  expect(load({}, environment)).toMatchObject({ user: "env", password: "two" });
  expect(load({ log: "nats://flag:three@h" }, environment)).toMatchObject({ user: "flag", password: "three" });
});

test("two ways to log in are refused", () => {
  expect(refusedFile("log: nats://u:p@h\nnats: { token: geheim }").message).toMatch(
    /2 ways to log in: user and password; token$/,
  );
});

test("a credentials file that cannot be read is named", () => {
  expect(refusedFile("log: nats://h\nnats:\n  credentials: no.creds").message).toBe(
    `${at("tidemark.yml")}:3: nats.credentials: ${at("no.creds")} cannot be read (ENOENT)`,
  );
});

test("a file that was asked for must be there", () => {
  expect(refusal(() => loadSettings(options({ config: "no.yml" }))).message).toBe(
    `${at("no.yml")}: there is no such configuration file`,
  );
});

test("a set with an embedded log that names no repository has its own under the standby; none, and NATS, have no other", () => {
  const places = (role: "run" | "client", flags: Flags = {}) =>
    loadSettings(options({ db: ["app.db"], standby: "standby", ...flags }, { role })).repositories;
  const own = { place: { kind: "directory", directory: at("standby", ".tidemark", "repository") }, own: true };
  expect(places("run")).toMatchObject([{ ...own, keep: { hourly: 168 } }]);
  expect(places("run", { repository: ["none"] })).toEqual([]);
  expect(places("run", { config: file("repository: none", "none.yml") })).toEqual([]);
  expect(places("run", { log: "nats://localhost" })).toEqual([]);
  expect(places("client")).toEqual([]);
  fs.mkdirSync(own.place.directory, { recursive: true });
  fs.writeFileSync(path.join(own.place.directory, "config"), "");
  expect(places("client")).toMatchObject([own]);
  expect(places("client", { repository: ["backup"] })).toMatchObject([{ place: { directory: at("backup") } }]);
});
