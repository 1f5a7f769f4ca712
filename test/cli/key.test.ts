import { expect, test, vi } from "vitest";

import { makeDataKey, wrapKey } from "../../src/keys/data-key.ts";
import { Identities } from "../../src/keys/identities.ts";
import { FsStore } from "../../src/repository/fs-store.ts";
import { RepositoryKeys } from "../../src/repository/keys/repository-keys.ts";
import { systemClock as clock } from "../../src/runtime/clock.ts";
import { type AgeIdentity, newIdentity, readerEnvironment } from "../support/age-identity.ts";
import { CliScene } from "../support/cli-scene.ts";
import { lastJson } from "../support/tidemark-cli.ts";

// Every step is a process of its own; many at once are slow on a busy machine.
vi.setConfig({ testTimeout: 180_000 });

test("key add, remove, rotate and list on a repository", async () => {
  await using scene = new CliScene();
  const [ann, bob] = [await newIdentity(), await newIdentity()];
  const first = makeDataKey();
  await beginRepository(scene.path("backup"), { key: first, wrapped: await wrapKey(first, [ann.recipient]) });
  const run = async (person: AgeIdentity | undefined, ...words: string[]) => {
    const env = person ? readerEnvironment(person) : { TIDEMARK_IDENTITY: undefined };
    const { code, stdout, stderr } = await scene.run(["key", ...words, "--repository", "backup", "--json"], { env });
    expect(stdout + stderr).not.toContain("AGE-SECRET");
    return { exit: code, ...lastJson(code === 0 ? stdout : stderr) };
  };
  expect(await run(bob, "add", bob.recipient)).toMatchObject({ exit: 2, code: "KEY_WRONG" });
  expect(await run(undefined, "rotate")).toMatchObject({ exit: 2, code: "KEY_MISSING" });
  expect(await run(ann, "add", "age1nonsense")).toMatchObject({ exit: 2, code: "CONFIG" });
  expect(await run(ann, "add", bob.recipient)).toMatchObject({
    key: first.id,
    recipients: [ann.recipient, bob.recipient],
  });
  const rotated = await run(bob, "rotate");
  expect(rotated).toMatchObject({ exit: 0, recipients: [ann.recipient, bob.recipient] });
  expect(await run(ann, "remove", ann.recipient)).toMatchObject({ exit: 0, recipients: [bob.recipient] });
  expect(await run(bob, "remove", bob.recipient)).toMatchObject({ exit: 2, code: "USAGE" });
  expect(await run(ann, "rotate")).toMatchObject({ exit: 2, code: "KEY_WRONG" });
  expect(await run(undefined, "list")).toMatchObject({
    keys: [
      { location: scene.path("backup"), id: first.id, inUse: false, recipients: [bob.recipient] },
      { inUse: true, recipients: [bob.recipient] },
    ],
  });
  expect(await scene.refused(["key", "add", ann.recipient])).toMatchObject({ exit: 2, code: "CONFIG" });
  expect(await scene.refused(["key", "list", "--repository", "elsewhere"])).toMatchObject({ code: "NOT_ENCRYPTED" });
});

async function beginRepository(directory: string, key: Parameters<RepositoryKeys["adopt"]>[0]): Promise<void> {
  const { signal } = new AbortController();
  await using store = new FsStore(directory);
  await store.put("config", Buffer.from("of a repository"), signal);
  const keys = await RepositoryKeys.read({ store, identities: new Identities(undefined), clock }, signal);
  await keys.adopt(key, signal);
}
