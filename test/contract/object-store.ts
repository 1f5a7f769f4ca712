import { describe, expect, test } from "vitest";

import type { ObjectInfo, ObjectStore } from "../../src/repository/object-store.ts";
import { codeOf } from "../support/log-records.ts";
import { Random } from "../support/random.ts";

/** Where a store keeps its objects, empty at first. */
export interface StorePlace extends AsyncDisposable {
  /** As another process would. */
  open(): ObjectStore;
}

const signal = new AbortController().signal;
const MiB = 1024 * 1024;
const text = (words: string): Uint8Array => Buffer.from(words);
const shown = (data: Uint8Array): string => Buffer.from(data).toString();

async function listed(store: ObjectStore, prefix = "", after?: string): Promise<ObjectInfo[]> {
  return await Array.fromAsync(store.list(prefix, signal, after));
}

async function namesOf(store: ObjectStore, prefix = "", after?: string): Promise<string[]> {
  return (await listed(store, prefix, after)).map(({ name }) => name);
}

/** What every ObjectStore must do. */
export function objectStoreContract(makePlace: () => Promise<StorePlace>): void {
  const fresh = async (): Promise<{ place: StorePlace; store: ObjectStore } & AsyncDisposable> => {
    const place = await makePlace();
    const store = place.open();
    const dispose = async (): Promise<void> => {
      await store[Symbol.asyncDispose]();
      await place[Symbol.asyncDispose]();
    };
    return { place, store, [Symbol.asyncDispose]: dispose };
  };

  describe("objects", () => {
    test("an empty place holds nothing, and says so", async () => {
      await using at = await fresh();
      expect(await listed(at.store)).toEqual([]);
      expect(await at.store.head("config", signal)).toBeUndefined();
      expect(await codeOf(at.store.get("config", signal))).toBe("OBJECT_MISSING");
      await at.store.remove("packs/00/nothing", signal);
    });

    test("what was put is there for whoever opens the place next", async () => {
      await using at = await fresh();
      const data = new Random("object").bytes(100_000);
      await at.store.put("packs/3f/0a-b.c_d", data, signal);
      await at.store.put("config", new Uint8Array(0), signal);
      await using other = at.place.open();
      expect(Buffer.compare(await other.get("packs/3f/0a-b.c_d", signal), data)).toBe(0);
      expect(await other.get("config", signal)).toHaveLength(0);
      const { modifiedMs = 0, ...found } = (await other.head("packs/3f/0a-b.c_d", signal)) ?? {};
      expect(found).toEqual({ name: "packs/3f/0a-b.c_d", bytes: 100_000 });
      expect(Math.abs(modifiedMs - Date.now())).toBeLessThan(30_000);
      expect(await other.head("packs/3f", signal)).toBeUndefined();
      expect(await codeOf(other.get("packs/3f", signal))).toBe("OBJECT_MISSING");
    });

    test("ranges are given exactly, and one beyond the end is damage", async () => {
      await using at = await fresh();
      await at.store.put("one", text("0123456789"), signal);
      const range = async (offset: number, bytes: number): Promise<string> =>
        shown(await at.store.get("one", signal, { offset, bytes }));
      expect(await range(0, 10)).toBe("0123456789");
      expect(await range(3, 4)).toBe("3456");
      expect(await range(9, 1)).toBe("9");
      expect(await range(4, 0)).toBe("");
      expect(await codeOf(range(5, 6))).toBe("OBJECT_CORRUPT");
      expect(await codeOf(range(10, 1))).toBe("OBJECT_CORRUPT");
      expect(await codeOf(at.store.get("two", signal, { offset: 0, bytes: 1 }))).toBe("OBJECT_MISSING");
    });

    test("the same put twice is fine, other bytes under that name do no harm unsaid", async () => {
      await using at = await fresh();
      await at.store.put("a/one", text("first"), signal);
      await at.store.put("a/one", text("first"), signal);
      expect(shown(await at.store.get("a/one", signal))).toBe("first");
      expect(await codeOf(at.store.put("a/one", text("other"), signal))).toMatch(/^OBJECT_EXISTS$|^none$/);
      expect(await namesOf(at.store)).toEqual(["a/one"]);
    });

    test("what was removed is gone", async () => {
      await using at = await fresh();
      await at.store.put("a/one", text("1"), signal);
      await at.store.put("a/two", text("2"), signal);
      await at.store.remove("a/one", signal);
      await at.store.remove("a/one", signal);
      expect(await at.store.head("a/one", signal)).toBeUndefined();
      expect(await codeOf(at.store.get("a/one", signal))).toBe("OBJECT_MISSING");
      expect(await namesOf(at.store)).toEqual(["a/two"]);
    });

    test("20 MiB", async () => {
      await using at = await fresh();
      const data = new Random("large object").bytes(20 * MiB);
      await at.store.put("packs/00/large", data, signal);
      expect(Buffer.compare(await at.store.get("packs/00/large", signal), data)).toBe(0);
      const piece = await at.store.get("packs/00/large", signal, { offset: 12 * MiB + 1, bytes: 5 * MiB });
      expect(Buffer.compare(piece, data.subarray(12 * MiB + 1, 17 * MiB + 1))).toBe(0);
      expect((await at.store.head("packs/00/large", signal))?.bytes).toBe(20 * MiB);
    });
  });

  describe("lists", () => {
    const NAMES = ["a-b", "a.b", "a/b", "a/b-c", "a0", "ab", "b/1/x", "b/1-x", "b/1.x", "b/10", "config", "index/0"];

    test("ascend by the bytes of whole names", async () => {
      await using at = await fresh();
      for (const name of NAMES.toReversed()) await at.store.put(name, text(name), signal);
      const sorted = NAMES.toSorted((one, other) => (one < other ? -1 : 1));
      expect(await listed(at.store)).toEqual(sorted.map((name) => ({ name, bytes: name.length })));
      for (const prefix of ["a", "a/", "a/b", "b/1", "b/1/", "b/1/x", "c", "d", "indexes/"])
        expect(await namesOf(at.store, prefix)).toEqual(sorted.filter((name) => name.startsWith(prefix)));
    });

    test("go on after any name, whether it is there or not", async () => {
      await using at = await fresh();
      for (const name of NAMES) await at.store.put(name, text(name), signal);
      const sorted = NAMES.toSorted((one, other) => (one < other ? -1 : 1));
      for (const after of [...NAMES, "a", "a/", "a/a", "b/1", "b/1/y", "z"]) {
        expect(await namesOf(at.store, "", after)).toEqual(sorted.filter((name) => name > after));
        expect(await namesOf(at.store, "b/", after)).toEqual(
          sorted.filter((name) => name.startsWith("b/") && name > after),
        );
      }
    });

    test("of many objects are whole, page by page", async () => {
      await using at = await fresh();
      const names = Array.from({ length: 250 }, (_, index) => `segments/${String(index * 7).padStart(16, "0")}`);
      await inGroups(names, 50, async (name) => await at.store.put(name, text("x"), signal));
      expect(await namesOf(at.store, "segments/")).toEqual(names);
      expect(await namesOf(at.store, "segments/", names[180])).toEqual(names.slice(181));
      for await (const { name } of at.store.list("", signal)) {
        expect(name).toBe(names[0]);
        break;
      }
    });
  });

  describe("at the same time", () => {
    test("many puts, gets and removals", async () => {
      await using at = await fresh();
      const names = Array.from({ length: 60 }, (_, index) => `packs/${index % 19}/${index}`);
      await Promise.all(names.map(async (name) => await at.store.put(name, text(name.repeat(1000)), signal)));
      const back = await Promise.all(names.map(async (name) => await at.store.get(name, signal)));
      expect(back.map(shown)).toEqual(names.map((name) => name.repeat(1000)));
      await Promise.all(names.slice(0, 30).map(async (name) => await at.store.remove(name, signal)));
      expect(await namesOf(at.store)).toEqual(names.slice(30).sort());
    });

    test("a reader never sees a part of an object", async () => {
      await using at = await fresh();
      await using other = at.place.open();
      const data = new Random("whole or not").bytes(6 * MiB);
      let putting = true;
      const put = at.store.put("packs/00/one", data, signal).finally(() => (putting = false));
      const seen = new Set<number>();
      while (putting) {
        const found = await other.head("packs/00/one", signal);
        if (found) seen.add(found.bytes);
        for (const { bytes } of await listed(other)) seen.add(bytes);
      }
      await put;
      seen.add((await other.get("packs/00/one", signal)).length);
      expect([...seen]).toEqual([6 * MiB]);
    });
  });

  describe("an aborted signal", () => {
    const reason = new Error("enough");

    test("ends every call with its reason", async () => {
      await using at = await fresh();
      await at.store.put("one", text("1"), signal);
      const ended = AbortSignal.abort(reason);
      const calls = [
        at.store.put("two", text("2"), ended),
        at.store.get("one", ended),
        at.store.head("one", ended),
        at.store.remove("one", ended),
        Array.fromAsync(at.store.list("", ended)),
      ];
      for (const call of calls) await expect(call).rejects.toBe(reason);
      expect(await namesOf(at.store)).toEqual(["one"]);
    });

    test("ends a put under way, and what is there afterwards is whole or nothing", async () => {
      await using at = await fresh();
      const data = new Random("aborted").bytes(20 * MiB);
      const controller = new AbortController();
      const put = at.store.put("packs/00/one", data, controller.signal).catch((error: unknown) => error);
      await at.store.head("config", signal);
      controller.abort(reason);
      const outcome = await put;
      expect([undefined, reason]).toContain(outcome);
      const found = await at.store.head("packs/00/one", signal);
      expect([undefined, data.length]).toContain(found?.bytes);
      await at.store.put("packs/00/one", data, signal);
      expect(Buffer.compare(await at.store.get("packs/00/one", signal), data)).toBe(0);
    });
  });
}

async function inGroups<T>(items: readonly T[], size: number, work: (item: T) => Promise<void>): Promise<void> {
  for (let at = 0; at < items.length; at += size) await Promise.all(items.slice(at, at + size).map(work));
}
