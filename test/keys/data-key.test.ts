import { generateHybridIdentity, generateX25519Identity, identityToRecipient } from "age-encryption";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { makeDataKey, unwrapKey, wrapKey } from "../../src/keys/data-key.ts";
import { Identities } from "../../src/keys/identities.ts";
import { toTidemarkError } from "../../src/runtime/errors.ts";

interface Person {
  readonly identity: string;
  readonly recipient: string;
}

async function person(): Promise<Person> {
  const identity = await generateX25519Identity();
  return { identity, recipient: await identityToRecipient(identity) };
}

function identityFile(text: string): string {
  const directory = mkdtempSync(path.join(os.tmpdir(), "tidemark-keys-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const file = path.join(directory, "identity.txt");
  writeFileSync(file, text, { mode: 0o600 });
  return file;
}

const inFile = (text: string): Identities => new Identities({ kind: "file", path: identityFile(text) });

async function failure(work: Promise<unknown>): Promise<{ code: string; message: string; hint: string }> {
  try {
    await work;
    throw new Error("it succeeded");
  } catch (error) {
    return toTidemarkError(error);
  }
}

const ann = await person();
const bob = await person();
const key = makeDataKey();
const wrapped = await wrapKey(key, [ann.recipient, bob.recipient]);

test("every recipient opens it, with a file as age-keygen writes it, or out of the environment", async () => {
  const file = inFile(`# created: 2026-01-31T17:45:00Z\n# public key: ${ann.recipient}\n${ann.identity}\n`);
  expect(await unwrapKey(wrapped, file, "the log")).toEqual(key);
  const text = new Identities({ kind: "text", text: bob.identity, variable: "TIDEMARK_IDENTITY" });
  expect(await unwrapKey(wrapped, text, "the log")).toEqual(key);
});

test("one of several identities is enough, and post-quantum ones are as good", async () => {
  const other = await person();
  expect(await unwrapKey(wrapped, inFile(`${other.identity}\r\n\r\n${bob.identity}\r\n`), "the log")).toEqual(key);
  const identity = await generateHybridIdentity();
  const hybrid = await wrapKey(key, [await identityToRecipient(identity)]);
  expect(await unwrapKey(hybrid, inFile(identity), "the log")).toEqual(key);
});

test("another identity is told whose it is, and whose it should be", async () => {
  const { identity, recipient } = await person();
  const { code, message, hint } = await failure(unwrapKey(wrapped, inFile(identity), "the log embedded:/x"));
  expect(code).toBe("KEY_WRONG");
  expect(message).toMatch(
    /^the log embedded:\/x is encrypted for others: the identity in \S+identity\.txt is that of age1/,
  );
  expect(message).toContain(recipient);
  expect(hint).toContain(`${ann.recipient} or ${bob.recipient}`);
});

test("no identity, and a file that is not there, are told as such", async () => {
  const none = await failure(unwrapKey(wrapped, new Identities(undefined), "the log"));
  expect(none).toMatchObject({
    code: "KEY_MISSING",
    message: "the log is encrypted, and no identity is given to open it",
  });
  expect(none.hint).toContain(ann.recipient);
  const gone = await failure(unwrapKey(wrapped, new Identities({ kind: "file", path: "/nowhere/id.txt" }), "the log"));
  expect(gone).toMatchObject({ code: "KEY_MISSING" });
  expect(gone.message).toContain("its identity /nowhere/id.txt cannot be read (ENOENT)");
});

const unusable: [string, string, string][] = [
  ["empty", "# nothing\n", "there is no identity in"],
  ["a public key", ann.recipient, "line 1 of"],
  ["cut short", ann.identity.slice(0, -4), "has a typing error"],
  ["a word", "swordfish\n", "line 1 of"],
  ["behind a passphrase", "age-encryption.org/v1\n-> scrypt x\n", "behind a passphrase"],
];
test.each(unusable)("an identity file that is %s is refused, and nothing of it is shown", async (_, text, problem) => {
  const { code, message, hint } = await failure(unwrapKey(wrapped, inFile(text), "the log"));
  expect(code).toBe("KEY_WRONG");
  expect(message).toContain(problem);
  expect(`${message} ${hint}`).not.toContain("swordfish");
  expect(`${message} ${hint}`).not.toContain("AGE-SECRET");
});

test("a damaged age file is told from a wrong identity, wherever it is cut or changed", async () => {
  const mine = inFile(ann.identity);
  for (let bytes = 0; bytes < wrapped.wrapped.length; bytes += 7) {
    const cut = { ...wrapped, wrapped: wrapped.wrapped.subarray(0, bytes) };
    expect((await failure(unwrapKey(cut, mine, "the log"))).code).toMatch(/^KEY_(DAMAGED|WRONG)$/);
  }
  const end = { ...wrapped, wrapped: Uint8Array.from(wrapped.wrapped) };
  end.wrapped[end.wrapped.length - 1] = 255 - (end.wrapped.at(-1) ?? 0);
  expect(await failure(unwrapKey(end, mine, "the log"))).toMatchObject({ code: "KEY_DAMAGED" });
});

test("a recipient with a typing error is refused before anything is wrapped", async () => {
  const last = bob.recipient.endsWith("q") ? "p" : "q";
  const { code, message } = await failure(wrapKey(key, [ann.recipient, bob.recipient.slice(0, -1) + last]));
  expect(code).toBe("CONFIG");
  expect(message).toContain("is no recipient");
});
