import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { afterAll, describe, expect, test } from "vitest";

import { CountingStore } from "../../src/repository/counting-store.ts";
import { FsStore } from "../../src/repository/fs-store.ts";
import { LimitedStore } from "../../src/repository/limited-store.ts";
import { RetryingStore } from "../../src/repository/retrying-store.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { objectStoreContract } from "../contract/object-store.ts";
import { FaultyStore } from "../support/faulty-store.ts";
import { codeOf } from "../support/log-records.ts";

const { signal } = new AbortController();
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-decorators-"));
afterAll(() => fs.rmSync(scratch, { recursive: true, force: true }));

let places = 0;
const fresh = (): FaultyStore => new FaultyStore(new FsStore(path.join(scratch, `${(places += 1)}`)));
const patient = { firstDelayMs: 1, maxDelayMs: 4 };
const unlimited = {
  uploadBytesPerSecond: undefined,
  downloadBytesPerSecond: undefined,
  requests: 8,
  clock: systemClock,
};
const bytes = (count: number): Uint8Array => new Uint8Array(count);

describe("every call fails once, or its answer is lost, and the contract holds", () => {
  objectStoreContract(async () => {
    const directory = path.join(scratch, `${(places += 1)}`);
    const open = (): RetryingStore => {
      const faulty = new FaultyStore(new FsStore(directory))
        .on({ times: 1, fault: { kind: "fail", code: "STORE_UNREACHABLE" } })
        .on({ call: "put", times: 2, fault: { kind: "forget", code: "STORE_UNREACHABLE" } })
        .on({ call: "remove", times: 1, fault: { kind: "forget", code: "STORE_UNREACHABLE" } })
        .on({ call: "list", times: 1, fault: { kind: "forget", code: "STORE_UNREACHABLE" } })
        .on({ call: "get", times: 1, fault: { kind: "delay", ms: 20 } });
      return new RetryingStore(new LimitedStore(new CountingStore(faulty), unlimited), patient);
    };
    return { open, [Symbol.asyncDispose]: async () => undefined };
  });
});

describe("tries again", () => {
  test("a bounded number of times, later and later, and not at the same moments as others do", async () => {
    const faulty = fresh().on({ fault: { kind: "fail", code: "STORE_UNREACHABLE" } });
    const store = new RetryingStore(faulty, { attempts: 4, firstDelayMs: 60, maxDelayMs: 120 });
    const took = await Promise.all(
      Array.from({ length: 8 }, async () => {
        const begin = performance.now();
        expect(await codeOf(store.head("config", signal))).toBe("STORE_UNREACHABLE");
        return Math.round(performance.now() - begin);
      }),
    );
    expect(faulty.calls).toHaveLength(8 * 4);
    // 60 + 120 + 120 ms, each up to a quarter less: more than a busy machine makes one moment of.
    expect(Math.min(...took)).toBeGreaterThanOrEqual(224);
    expect(Math.max(...took) - Math.min(...took)).toBeGreaterThan(5);
  });

  test("nothing that a repetition cannot help", async () => {
    const faulty = fresh().on({ fault: { kind: "fail", code: "STORE_DENIED" } });
    expect(await codeOf(new RetryingStore(faulty, patient).put("one", bytes(1), signal))).toBe("STORE_DENIED");
    expect(faulty.calls).toEqual(["put one"]);
  });

  test("a full store, and gives up when its caller does", async () => {
    const faulty = fresh().on({ fault: { kind: "fail", code: "STORE_FULL" } });
    const [reason, controller] = [new Error("enough"), new AbortController()];
    const put = new RetryingStore(faulty, { firstDelayMs: 60_000 }).put("one", bytes(1), controller.signal);
    controller.abort(reason);
    await expect(put).rejects.toBe(reason);
  });
});

describe("limits", () => {
  test("so many calls are in flight, and whoever gives up makes room for nobody twice", async () => {
    const faulty = fresh().on({ call: "head", fault: { kind: "delay", ms: 30 } });
    const store = new LimitedStore(faulty, { ...unlimited, requests: 3 });
    const stop = new AbortController();
    const calls = Array.from({ length: 9 }, async () => await store.head("one", signal));
    const given = Array.from({ length: 3 }, async () => await store.head("two", stop.signal).catch(() => "ended"));
    await new Promise((resolve) => setImmediate(resolve));
    expect(faulty.calls).toHaveLength(3);
    stop.abort();
    expect(await Promise.all(given)).toEqual(["ended", "ended", "ended"]);
    await Promise.all(calls);
    expect(faulty.calls).toEqual(Array.from({ length: 9 }, () => "head one"));
  });

  test.each([
    ["upload", { uploadBytesPerSecond: 1_000_000 }],
    ["download", { downloadBytesPerSecond: 1_000_000 }],
  ])("%s: so many bytes a second, however many calls there are", async (direction, pace) => {
    const plain = fresh();
    const store = new LimitedStore(plain, { ...unlimited, ...pace });
    const names = ["a", "b", "c", "d", "e"];
    const put = async (to: LimitedStore | FaultyStore): Promise<unknown> =>
      await Promise.all(names.map(async (name) => await to.put(name, bytes(50_000), signal)));
    if (direction === "download") await put(plain);
    const begin = performance.now();
    const range = { offset: 0, bytes: 50_000 };
    if (direction === "upload") await put(store);
    else await Promise.all(names.map(async (name) => await store.get(name, signal, range)));
    // The last may begin when four are paid for.
    expect(performance.now() - begin).toBeGreaterThanOrEqual(199);
  });
});

test("an object whose size shows afterwards is paid for by the next", async () => {
  const plain = fresh();
  await plain.put("one", bytes(100_000), signal);
  const store = new LimitedStore(plain, { ...unlimited, downloadBytesPerSecond: 1_000_000 });
  const begin = performance.now();
  await store.get("one", signal);
  await store.get("one", signal, { offset: 0, bytes: 1 });
  expect(performance.now() - begin).toBeGreaterThanOrEqual(99);
});

test("what goes over the line is counted, repetitions too, and only what arrived counts as bytes", async () => {
  const faulty = fresh().on({ call: "put", times: 1, fault: { kind: "fail", code: "STORE_UNREACHABLE" } });
  const counting = new CountingStore(faulty);
  const store = new RetryingStore(counting, patient);
  await store.put("one", bytes(100), signal);
  await store.get("one", signal, { offset: 0, bytes: 40 });
  await Array.fromAsync(store.list("", signal));
  await store.remove("one", signal);
  expect(counting.counts).toEqual({ requests: 5, bytesUp: 100, bytesDown: 40 });
});

test("what is read in place is counted, and no limit is passed by", async () => {
  const place = path.join(scratch, `${(places += 1)}`);
  const range = { offset: 10, bytes: 30 };
  const counting = new CountingStore(new FsStore(place));
  const inPlace = (limits: Partial<typeof unlimited>): string | undefined =>
    new RetryingStore(new LimitedStore(counting, { ...unlimited, ...limits }), patient).inPlace("packs/one", range);
  expect(inPlace({ requests: 1 })).toBeUndefined();
  expect(new LimitedStore(counting, { ...unlimited, downloadBytesPerSecond: 1 }).inPlace("a", range)).toBeUndefined();
  expect(counting.counts).toEqual({ requests: 0, bytesUp: 0, bytesDown: 0 });
  expect(inPlace({ requests: 2 })).toBe(path.join(place, "packs/one"));
  expect(counting.counts).toEqual({ requests: 1, bytesUp: 0, bytesDown: 30 });
  expect(new RetryingStore(fresh()).inPlace("one", range)).toBeUndefined();
});
