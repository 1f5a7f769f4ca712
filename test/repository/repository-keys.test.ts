import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { makeDataKey, type OwnKey, wrapKey } from "../../src/keys/data-key.ts";
import { Identities } from "../../src/keys/identities.ts";
import { FsStore } from "../../src/repository/fs-store.ts";
import { RepositoryKeys } from "../../src/repository/keys/repository-keys.ts";
import { Sealing } from "../../src/repository/keys/sealing.ts";
import { openSealed, type RepositorySealer, type SealedAs } from "../../src/repository/sealer.ts";
import { systemClock as clock } from "../../src/runtime/clock.ts";
import { toTidemarkError } from "../../src/runtime/errors.ts";
import { contentId } from "../../src/tree/content-id.ts";
import { type AgeIdentity, newIdentity } from "../support/age-identity.ts";
import { FaultyStore } from "../support/faulty-store.ts";

const { signal } = new AbortController();
const options = { mode: "write", signal } as const;
const ann = await newIdentity();
const bob = await newIdentity();
const BASE: SealedAs = { kind: "base", name: "bases/1" };
const TEXT = Buffer.from("swordfish ".repeat(100));

const identitiesOf = (person: AgeIdentity | undefined): Identities =>
  new Identities(person && { kind: "text", text: person.identity, variable: "TIDEMARK_IDENTITY" });

async function ownKey(...people: readonly AgeIdentity[]): Promise<OwnKey> {
  const key = makeDataKey();
  return {
    key,
    wrapped: await wrapKey(
      key,
      people.map(({ recipient }) => recipient),
    ),
  };
}

function directory(): string {
  const found = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-repository-keys-"));
  onTestFinished(() => fs.rmSync(found, { recursive: true, force: true }));
  return found;
}

const config = {
  id: "3f0a1c52-7f5b-4d0e-9a56-0d6f3f3f1a11",
  set: "app",
  createdMs: 1,
  createdBy: "t",
  encrypted: true,
};

async function openSealer(at: string, person?: AgeIdentity, logKey?: OwnKey): Promise<RepositorySealer> {
  return new Sealing({ identities: identitiesOf(person), clock, logKey }).open(new FsStore(at), config, options);
}

async function readKeys(at: string, person?: AgeIdentity): Promise<RepositoryKeys> {
  return RepositoryKeys.read({ store: new FsStore(at), identities: identitiesOf(person), clock }, signal);
}

async function failure(work: Promise<unknown>): Promise<{ code: string; message: string; hint: string }> {
  try {
    await work;
    throw new Error("it succeeded");
  } catch (error) {
    return toTidemarkError(error);
  }
}

const opened = async (sealer: RepositorySealer, stored: Uint8Array, as = BASE): Promise<string> =>
  Buffer.from(await openSealed(sealer, as, stored)).toString();

test("the key of the log is taken over: who has it needs no identity, others open it with theirs", async () => {
  const at = directory();
  const own = await ownKey(ann, bob);
  const writer = await openSealer(at, undefined, own);
  const stored = writer.seal(BASE, TEXT);
  expect(Buffer.from(stored).includes("swordfish")).toBe(false);
  expect(Buffer.from(writer.blobId(TEXT)).toString("latin1")).toBe(contentId(TEXT, own.key.nameKey));
  // Again, as after a restart: nothing more is stored.
  await openSealer(at, undefined, own);
  expect(fs.readdirSync(path.join(at, "keys"))).toHaveLength(1);
  for (const person of [ann, bob]) expect(await opened(await openSealer(at, person), stored)).toBe(TEXT.toString());
});

test("what is sealed opens under its name and kind only, and unchanged", async () => {
  const sealer = await openSealer(directory(), ann, await ownKey(ann));
  const stored = sealer.seal(BASE, TEXT);
  await expect(openSealed(sealer, { ...BASE, name: "bases/2" }, stored)).rejects.toThrow("does not open with its key");
  await expect(openSealed(sealer, { ...BASE, kind: "index" }, stored)).rejects.toThrow("kind 20 at byte 5");
  for (const position of [9, 20, 40, 60, stored.length - 1]) {
    const changed = Uint8Array.from(stored);
    changed[position] = 255 - (changed[position] ?? 0);
    expect((await failure(openSealed(sealer, BASE, changed))).message).not.toBe("it succeeded");
  }
  const plain = await new Sealing({ identities: identitiesOf(ann), clock }).open(
    new FsStore(directory()),
    { ...config, encrypted: false },
    options,
  );
  await expect(openSealed(sealer, BASE, plain.seal(BASE, TEXT))).rejects.toThrow(
    "it is not encrypted, unlike the repository",
  );
  await expect(openSealed(plain, BASE, stored)).rejects.toThrow("it is encrypted, unlike the repository");
});

test("nothing is written in the clear that the log encrypts", async () => {
  const sealing = new Sealing({ identities: identitiesOf(ann), clock, logKey: await ownKey(ann) });
  expect(sealing.encrypt).toBe(true);
  const open = sealing.open(new FsStore(directory()), { ...config, encrypted: false }, options);
  expect(await failure(open)).toMatchObject({ code: "NOT_ENCRYPTED" });
});

test("without an identity, and with another one, it is said at once", async () => {
  const at = directory();
  await openSealer(at, undefined, await ownKey(ann));
  const missing = await failure(openSealer(at));
  expect(missing).toMatchObject({
    code: "KEY_MISSING",
    message: expect.stringContaining(`the repository ${at}`) as string,
  });
  expect(missing.hint).toContain(ann.recipient);
  expect(await failure(openSealer(at, bob))).toMatchObject({ code: "KEY_WRONG" });
  fs.rmSync(path.join(at, "keys"), { recursive: true });
  expect(await failure(openSealer(at, ann))).toMatchObject({ code: "OBJECT_MISSING" });
});

test("a recipient is added and removed: all keys are wrapped anew, what is sealed stays", async () => {
  const at = directory();
  const stored = (await openSealer(at, undefined, await ownKey(ann))).seal(BASE, TEXT);
  await (await readKeys(at, ann)).rotate(signal);
  await (await readKeys(at, ann)).add(bob.recipient, signal);
  expect(await opened(await openSealer(at, bob), stored)).toBe(TEXT.toString());
  await (await readKeys(at, bob)).remove(ann.recipient, signal);
  expect(await failure(openSealer(at, ann))).toMatchObject({ code: "KEY_WRONG" });
  expect(await opened(await openSealer(at, bob), stored)).toBe(TEXT.toString());
  expect((await readKeys(at)).all.map(({ recipients }) => recipients)).toEqual([[bob.recipient], [bob.recipient]]);
  expect(fs.readdirSync(path.join(at, "keys"))).toHaveLength(2);
  expect(await failure((await readKeys(at, bob)).remove(bob.recipient, signal))).toMatchObject({ code: "USAGE" });
  expect(await failure((await readKeys(at, bob)).remove(ann.recipient, signal))).toMatchObject({ code: "USAGE" });
  expect(await opened(await openSealer(at, bob), stored)).toBe(TEXT.toString());
});

test("a new key for what comes: names of content stay, what was before opens, an open reader finds it", async () => {
  const at = directory();
  const before = await openSealer(at, undefined, await ownKey(ann));
  const old = before.seal(BASE, TEXT);
  const id = await (await readKeys(at, ann)).rotate(signal);
  const after = await openSealer(at, ann);
  const stored = after.seal(BASE, TEXT);
  expect(Buffer.from(stored.subarray(16, 32)).toString("hex")).toBe(id);
  expect(after.blobId(TEXT)).toEqual(before.blobId(TEXT));
  expect(await opened(after, old)).toBe(TEXT.toString());
  expect(await failure(openSealed(before, BASE, stored))).toMatchObject({ code: "KEY_MISSING" });
  const reader = await openSealer(at, ann);
  await (await readKeys(at, ann)).rotate(signal);
  expect(await opened(reader, (await openSealer(at, ann)).seal(BASE, TEXT))).toBe(TEXT.toString());
});

test("a removal that broke off anywhere leaves all keys open to somebody, and the next one ends it", async () => {
  for (let skip = 0; skip < 4; skip += 1) {
    const at = directory();
    const stored = (await openSealer(at, undefined, await ownKey(ann, bob))).seal(BASE, TEXT);
    await (await readKeys(at, ann)).rotate(signal);
    const store = new FaultyStore(new FsStore(at));
    const fault = { kind: "fail", code: "IO" } as const;
    // Two are put, then two are removed.
    if (skip < 2) store.on({ call: "put", skip, fault });
    else store.on({ call: "remove", skip: skip - 2, fault });
    const keys = await RepositoryKeys.read({ store, identities: identitiesOf(bob), clock }, signal);
    expect(await failure(keys.remove(ann.recipient, signal))).toMatchObject({ code: "IO" });
    expect(await opened(await openSealer(at, bob), stored)).toBe(TEXT.toString());
    const again = await readKeys(at, bob);
    await again.remove(ann.recipient, signal);
    expect(await failure(openSealer(at, ann))).toMatchObject({ code: "KEY_WRONG" });
    expect(fs.readdirSync(path.join(at, "keys"))).toHaveLength(2);
  }
});

test("a key's object that is damaged, newer, or in another's place is named", async () => {
  const at = directory();
  await openSealer(at, undefined, await ownKey(ann));
  const [name = ""] = fs.readdirSync(path.join(at, "keys"));
  const file = path.join(at, "keys", name);
  const good = fs.readFileSync(file);
  const spoil = async (content: Buffer): Promise<unknown> => {
    fs.chmodSync(file, 0o600);
    fs.writeFileSync(file, content);
    return failure(openSealer(at, ann));
  };
  const named = expect.stringContaining(`keys/${name}`) as string;
  for (let position = 5; position < good.length; position += 11) {
    const changed = Buffer.from(good);
    changed[position] = 255 - (changed[position] ?? 0);
    expect(await spoil(changed)).toMatchObject({ code: "OBJECT_CORRUPT", message: named });
  }
  expect(await spoil(good.subarray(0, -20))).toMatchObject({ code: "OBJECT_CORRUPT", message: named });
  const newer = Buffer.from(good);
  newer[4] = 2;
  expect(await spoil(newer)).toMatchObject({ code: "REPOSITORY_VERSION", message: named });
  const other = directory();
  await openSealer(other, undefined, await ownKey(ann));
  const [strange = ""] = fs.readdirSync(path.join(other, "keys"));
  expect(await spoil(fs.readFileSync(path.join(other, "keys", strange)))).toMatchObject({ code: "OBJECT_CORRUPT" });
});
