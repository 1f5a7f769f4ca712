import type { ObjectStore } from "./object-store.ts";

/** Names and sizes of all objects, from one listing. */
export class Survey {
  readonly #objects: ReadonlyMap<string, number>;

  private constructor(objects: ReadonlyMap<string, number>) {
    this.#objects = objects;
  }

  static async of(store: ObjectStore, signal: AbortSignal): Promise<Survey> {
    const objects = new Map<string, number>();
    for await (const { name, bytes } of store.list("", signal)) objects.set(name, bytes);
    return new Survey(objects);
  }

  get count(): number {
    return this.#objects.size;
  }

  get bytes(): number {
    return this.#objects.values().reduce((sum, bytes) => sum + bytes, 0);
  }

  /** Undefined: it is not there. */
  bytesOf(name: string): number | undefined {
    return this.#objects.get(name);
  }

  names(prefix: string): string[] {
    return [...this.#objects.keys()].filter((name) => name.startsWith(prefix));
  }
}
