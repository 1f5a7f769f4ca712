import type { ByteRange, ObjectInfo, ObjectStore } from "../../src/repository/object-store.ts";
import { sleep } from "../../src/runtime/clock.ts";
import { type ErrorCode, TidemarkError } from "../../src/runtime/errors.ts";

export type StoreCall = "put" | "get" | "head" | "list" | "remove";

export type Fault =
  /** Does nothing and throws. */
  | { readonly kind: "fail"; readonly code: ErrorCode }
  /** Does it, and throws: the answer was lost. */
  | { readonly kind: "forget"; readonly code: ErrorCode }
  | { readonly kind: "delay"; readonly ms: number }
  /** Never answers; ends with the signal. */
  | { readonly kind: "hang" }
  /** put: keeps the first `bytes` only and says it was fine; get: gives so many. */
  | { readonly kind: "tear"; readonly bytes: number }
  /** put or get: one bit differs, of the byte at `at` (counted from the end when negative). */
  | { readonly kind: "corrupt"; readonly at: number };

export interface FaultRule {
  /** All calls when it is not said. */
  readonly call?: StoreCall;
  /** Of objects whose name matches; of a list its prefix. */
  readonly name?: RegExp;
  /** So many matching calls go well before. 0 when it is not said. */
  readonly skip?: number;
  /** So many are hit; all when it is not said. */
  readonly times?: number;
  readonly fault: Fault;
}

/** A store that does what stores do on a bad day. The first rule that matches a call is it. */
export class FaultyStore implements ObjectStore {
  readonly location: string;
  /** Every call, as "put packs/…", in order. */
  readonly calls: string[] = [];
  readonly #store: ObjectStore;
  #rules: { readonly rule: FaultRule; met: number }[] = [];
  /** Not listed yet. */
  readonly #late = new Set<string>();
  #listsLate = false;
  /** By prefix, what is listed there whatever is there by now. */
  readonly #frozen = new Map<string, readonly ObjectInfo[]>();

  constructor(store: ObjectStore) {
    this.#store = store;
    this.location = store.location;
  }

  on(rule: FaultRule): this {
    this.#rules.push({ rule, met: 0 });
    return this;
  }

  /** No faults from now on; what lists kept back is listed. */
  heal(): void {
    this.#rules = [];
    this.#late.clear();
    this.#listsLate = false;
    this.#frozen.clear();
  }

  /** From now on lists do not show what is put, until `heal`. */
  listLate(): void {
    this.#listsLate = true;
  }

  /** From now on lists of this prefix show what they show now, until `heal`. */
  async listAsNow(prefix: string, signal: AbortSignal): Promise<void> {
    this.#frozen.set(prefix, await Array.fromAsync(this.list(prefix, signal)));
  }

  async put(name: string, data: Uint8Array, signal: AbortSignal): Promise<void> {
    const fault = await this.#meet("put", name, signal);
    await this.#store.put(name, spoilt(data, fault), signal);
    if (this.#listsLate) this.#late.add(name);
    forget(fault, this.location);
  }

  async get(name: string, signal: AbortSignal, range?: ByteRange): Promise<Uint8Array> {
    const fault = await this.#meet("get", name, signal);
    const data = await this.#store.get(name, signal, range);
    forget(fault, this.location);
    return spoilt(data, fault);
  }

  async head(name: string, signal: AbortSignal): Promise<ObjectInfo | undefined> {
    const fault = await this.#meet("head", name, signal);
    const found = await this.#store.head(name, signal);
    forget(fault, this.location);
    return found;
  }

  async *list(prefix: string, signal: AbortSignal, after?: string): AsyncGenerator<ObjectInfo, void, void> {
    const fault = await this.#meet("list", prefix, signal);
    const all = this.#frozen.get(prefix) ?? this.#store.list(prefix, signal, after);
    for await (const found of all) if (!this.#late.has(found.name)) yield found;
    forget(fault, this.location);
  }

  async remove(name: string, signal: AbortSignal): Promise<void> {
    const fault = await this.#meet("remove", name, signal);
    await this.#store.remove(name, signal);
    forget(fault, this.location);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store[Symbol.asyncDispose]();
  }

  async #meet(call: StoreCall, name: string, signal: AbortSignal): Promise<Fault | undefined> {
    this.calls.push(`${call} ${name}`);
    const fault = this.#faultOf(call, name);
    if (fault?.kind === "delay") await sleep(fault.ms, signal);
    if (fault?.kind === "hang") await new Promise((resolve) => signal.addEventListener("abort", resolve));
    signal.throwIfAborted();
    if (fault?.kind === "fail") throw storeFault(fault.code, this.location);
    return fault;
  }

  #faultOf(call: StoreCall, name: string): Fault | undefined {
    for (const entry of this.#rules) {
      const { rule } = entry;
      if ((rule.call ?? call) !== call || rule.name?.test(name) === false) continue;
      entry.met += 1;
      const { skip = 0, times = Number.POSITIVE_INFINITY } = rule;
      if (entry.met > skip && entry.met <= skip + times) return rule.fault;
    }
    return undefined;
  }
}

function spoilt(data: Uint8Array, fault: Fault | undefined): Uint8Array {
  if (fault?.kind === "tear") return data.slice(0, fault.bytes);
  if (fault?.kind !== "corrupt" || data.length === 0) return data;
  const wrong = data.slice();
  const at = (((fault.at < 0 ? data.length + fault.at : fault.at) % data.length) + data.length) % data.length;
  wrong[at] = (wrong[at] ?? 0) ^ 0x10;
  return wrong;
}

function forget(fault: Fault | undefined, location: string): void {
  if (fault?.kind === "forget") throw storeFault(fault.code, location);
}

function storeFault(code: ErrorCode, location: string): TidemarkError {
  return new TidemarkError(code, `${location}: the store has a bad day`, { hint: "Wait for a better one." });
}
