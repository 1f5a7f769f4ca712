import fs from "node:fs";
import path from "node:path";

import { expect } from "vitest";

import { offset } from "../../../src/event/positions.ts";
import { makeDataKey, wrapKey } from "../../../src/keys/data-key.ts";
import { Identities } from "../../../src/keys/identities.ts";
import { FsStore } from "../../../src/repository/fs-store.ts";
import { Sealing } from "../../../src/repository/keys/sealing.ts";
import { encodeExpired, encodeLock } from "../../../src/repository/notes.ts";
import type { Repository } from "../../../src/repository/repository.ts";
import { verifyRepository } from "../../../src/repository/verify.ts";
import { systemClock } from "../../../src/runtime/clock.ts";
import { TidemarkError } from "../../../src/runtime/errors.ts";
import { newIdentity } from "../../support/age-identity.ts";
import type { Random } from "../../support/random.ts";
import { pictureOf } from "../../support/tree-scene.ts";
import { ArchiveBench } from "./archive-bench.ts";
import { expectRestored } from "./tree-bench.ts";

const { signal } = new AbortController();
const INSERT = "INSERT INTO t (body) VALUES (randomblob(60000))";
/** Whoever reads can do without them: what they say is told otherwise, or need not be known. */
const DISPENSABLE = /^(index|verified|locks|expired)\//;
/** Nobody can know that it was there; of a segment only what lies around it and no base bridges. */
const NOT_MISSED = /^(bases|segments|index|verified|locks|expired)\//;
const REFUSALS = [
  "OBJECT_CORRUPT",
  "OBJECT_MISSING",
  "OFFSET_NOT_FOUND",
  "BASE_NOT_FOUND",
  "REPOSITORY_VERSION",
  "KEY_DAMAGED",
  "KEY_MISSING",
  "KEY_WRONG",
];

type Damage = (object: string, others: readonly string[]) => void;

const damages = (random: Random): Readonly<Record<string, Damage>> => ({
  "a flipped bit": (object) => {
    const data = fs.readFileSync(object);
    const at = random.integer(0, data.length - 1);
    data[at] = (data[at] ?? 0) ^ (1 << random.integer(0, 7));
    fs.writeFileSync(object, data);
  },
  truncated: (object) => fs.truncateSync(object, random.integer(0, fs.statSync(object).size - 1)),
  missing: (object) => fs.rmSync(object),
  swapped: (object, others) => {
    const other = random.pick([others[0] ?? object, ...others]);
    const bytes = fs.readFileSync(object);
    fs.copyFileSync(other, object);
    fs.writeFileSync(other, bytes);
  },
  "an older one in its place": (object, others) => fs.copyFileSync(others[0] ?? object, object),
});

async function newSealing(): Promise<Sealing> {
  const ann = await newIdentity();
  const key = makeDataKey();
  const logKey = { key, wrapped: await wrapKey(key, [ann.recipient]) };
  const identities = new Identities({ kind: "text", text: ann.identity, variable: "TIDEMARK_IDENTITY" });
  return new Sealing({ identities, clock: systemClock, logKey });
}

/** Two repositories of one history, with every kind of object in them. */
export class DamageMatrix implements AsyncDisposable {
  readonly #scene: ArchiveBench;
  readonly #random: Random;
  readonly #sealing: Sealing | undefined;
  readonly #damages: Readonly<Record<string, Damage>>;

  private constructor(scene: ArchiveBench, random: Random, sealing: Sealing | undefined) {
    this.#scene = scene;
    this.#random = random;
    this.#sealing = sealing;
    this.#damages = damages(random);
  }

  static async open(random: Random, { encrypted }: { readonly encrypted: boolean }): Promise<DamageMatrix> {
    const matrix = new DamageMatrix(await ArchiveBench.open(), random, encrypted ? await newSealing() : undefined);
    await matrix.#fill();
    return matrix;
  }

  async #fill(): Promise<void> {
    const scene = this.#scene;
    await scene.commit("app.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)");
    for (let n = 0; n < 6; n += 1) await scene.commit("app.db", INSERT);
    await scene.change("echo one > one; head -c 300000 /dev/urandom > large");
    for (let n = 0; n < 6; n += 1) await scene.commit("app.db", INSERT);
    for (const name of ["first", "second"]) {
      await using repository = await this.#repository("write", name);
      await scene.archive(repository, { perSegment: 6 });
      for (const at of [6, 12]) await scene.base(repository, offset(at), this.#random);
      for (const { uuid: base } of await repository.bases.list(signal))
        await repository.bases.markVerified({ base, atMs: 1, how: "full", host: "h" }, signal);
      const mark = { kind: "expired", name: "expired/6f1e8f0c-6a41-4b56-9a3e-1f1f5a0b7c11" } as const;
      await repository.objects.put(mark, encodeExpired({ atMs: 1, names: ["packs/00/gone"] }), signal);
      // One that is taken is renewed for ever: this is what one leaves whose process died.
      const lock = { kind: "lock", name: "locks/6f1e8f0c-6a41-4b56-9a3e-1f1f5a0b7c12" } as const;
      const note = { mode: "shared", host: "h", pid: 1, sinceMs: 1, atMs: 1 } as const;
      await repository.objects.put(lock, encodeLock(note), signal);
    }
  }

  /** Every object with every damage. Returns how many. */
  async runAll(): Promise<number> {
    let done = 0;
    for (const what of Object.keys(this.#damages)) {
      for (const name of this.#objects("first")) {
        await this.#try(name, what);
        done += 1;
      }
    }
    return done;
  }

  /** Of each kind one object, with one damage of the five; of packs with all. Returns the kinds. */
  async runSome(): Promise<Set<string>> {
    const kinds = Map.groupBy(this.#objects("first"), (name) => name.split("/")[0] ?? "");
    const names = Object.keys(this.#damages);
    for (const objects of kinds.values()) {
      const some = objects[0]?.startsWith("packs/") ? names : [this.#random.pick(names as [string, ...string[]])];
      for (const what of some) await this.#try(this.#random.pick([objects[0] ?? "", ...objects]), what);
    }
    return new Set(kinds.keys());
  }

  async #try(name: string, what: string): Promise<void> {
    const damage = this.#damages[what];
    if (damage && (await this.#isSpoilt(name, damage))) await this.#expectSafe(name, what);
  }

  /** False when it is as before: there is no other one of its kind. */
  async #isSpoilt(name: string, damage: Damage): Promise<boolean> {
    for (const copy of ["one", "two"]) fs.rmSync(this.#scene.directory(copy), { recursive: true, force: true });
    const keep = { recursive: true, preserveTimestamps: true };
    fs.cpSync(this.#scene.directory("first"), this.#scene.directory("one"), keep);
    fs.cpSync(this.#scene.directory("second"), this.#scene.directory("two"), keep);
    const place = (one: string): string => path.join(this.#scene.directory("one"), one);
    const before = fs.readFileSync(place(name));
    const kind = name.split("/")[0] ?? "";
    const others = this.#objects("one").filter((other) => other.startsWith(`${kind}/`) && other !== name);
    damage(place(name), others.map(place));
    return !fs.existsSync(place(name)) || !fs.readFileSync(place(name)).equals(before);
  }

  async #expectSafe(name: string, what: string): Promise<void> {
    const label = `${what}: ${name}`;
    const isMissing = what === "missing";
    const found = await this.#verified();
    if (!(isMissing && NOT_MISSED.test(name))) {
      // Without config or keys it is no repository that can be opened.
      const told = isMissing && /^(config|keys)/.test(name) ? /./ : new RegExp(path.basename(name));
      expect(found, `verify, ${label}`).toMatch(told);
    }
    const alone = await this.#restored(["one"], label);
    if (DISPENSABLE.test(name)) expect(alone, label).toBe("restored");
    expect(await this.#restored(["one", "two"], label), label).toBe("restored");
  }

  /** What `verify` says, or why it cannot. */
  async #verified(): Promise<string> {
    try {
      await using repository = await this.#repository("read", "one");
      const random = (): number => this.#random.next();
      const report = await verifyRepository(repository, { share: 1, random, signal, onProgress: () => undefined });
      return [...report.problems.map(({ object, problem }) => `${object} ${problem}`), ...report.warnings].join("\n");
    } catch (error) {
      return String(error);
    }
  }

  /** Exactly what was recorded, or refused with a clear code and nothing left. */
  async #restored(names: readonly string[], label: string): Promise<string> {
    const scene = this.#scene;
    const left = scene.bench.leftInTargets();
    await using stack = new AsyncDisposableStack();
    const repositories: Repository[] = [];
    try {
      for (const name of names) {
        const opened = await this.#repository("read", name).catch((error: unknown) => {
          if (names.length === 1) throw error;
        });
        if (opened) repositories.push(stack.use(opened));
      }
      const { directory, offset: at } = await scene.restore("latest", { repositories });
      const recorded = scene.at(at);
      const image = recorded?.images.get("app.db") ?? Buffer.alloc(0);
      expect(Buffer.compare(fs.readFileSync(path.join(directory, "app.db")), image), label).toBe(0);
      if (recorded?.offset === at && recorded.picture) expectRestored(directory, recorded.picture);
      else expect(Object.keys(pictureOf(path.join(directory, "uploads"))).length, label).toBeGreaterThan(0);
      fs.rmSync(directory, { recursive: true });
      return "restored";
    } catch (error) {
      if (!(error instanceof TidemarkError)) throw error;
      expect(REFUSALS, `${label}: ${error.message}`).toContain(error.code);
      expect(scene.bench.leftInTargets()).toEqual(left);
      return error.code;
    }
  }

  #repository(mode: "read" | "write", name: string): Promise<Repository> {
    // What is remembered of an object is not what is there now.
    fs.rmSync(path.join(this.#scene.bench.directory, `cache-${mode}`), { recursive: true, force: true });
    return this.#scene.repository(mode, new FsStore(this.#scene.directory(name)), this.#sealing);
  }

  #objects(name: string): string[] {
    const root = this.#scene.directory(name);
    const found = fs.readdirSync(root, { recursive: true, withFileTypes: true });
    const files = found.filter((entry) => entry.isFile());
    return files.map((entry) => path.relative(root, path.join(entry.parentPath, entry.name))).toSorted();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scene[Symbol.asyncDispose]();
  }
}
