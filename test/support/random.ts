import { randomInt } from "node:crypto";

/** Repeatable random numbers. A seed that is not given comes from TIDEMARK_TEST_SEED or is drawn, and is printed. */
export class Random {
  readonly seed: number;
  #state: number;

  constructor(what: string, seed?: number) {
    this.seed = seed ?? Number(process.env["TIDEMARK_TEST_SEED"] ?? randomInt(2 ** 31));
    this.#state = this.seed;
    if (seed === undefined) process.stdout.write(`${what}: TIDEMARK_TEST_SEED=${this.seed}\n`);
  }

  /** 0 <= x < 1 (mulberry32). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** least <= x <= most. */
  integer(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1));
  }

  bytes(count: number): Buffer {
    const bytes = Buffer.alloc(count);
    for (let i = 0; i < count; i += 1) bytes[i] = this.next() * 256;
    return bytes;
  }

  pick<T>(from: readonly [T, ...T[]]): T {
    return from[this.integer(0, from.length - 1)] ?? from[0];
  }
}
