import type { Random } from "../random.ts";

type Change =
  | { readonly kind: "write"; readonly at: number; readonly data: Buffer }
  | { readonly kind: "truncate"; readonly size: number };

/** What a file holds, and what of it is certain to be on the disk. */
export class DiskFile {
  /** As of the last sync that ended, the changes that came before it began included. */
  #durable = new Content();
  #pending: Change[] = [];
  /** For each sync under way: how many pending changes it covers. */
  readonly #syncs = new Map<bigint, number>();

  /** @param content on the disk for good */
  constructor(content?: Buffer) {
    if (content) this.#durable.apply({ kind: "write", at: 0, data: content });
  }

  change(change: Change): void {
    this.#pending.push(change);
  }

  beginSync(token: bigint): void {
    this.#syncs.set(token, this.#pending.length);
  }

  endSync(token: bigint): void {
    const covered = this.#syncs.get(token) ?? 0;
    this.#syncs.delete(token);
    for (const change of this.#pending.splice(0, covered)) this.#durable.apply(change);
    for (const [other, count] of this.#syncs) this.#syncs.set(other, Math.max(0, count - covered));
  }

  /** As every program sees it. */
  now(): Buffer {
    const content = this.#durable.copy();
    for (const change of this.#pending) content.apply(change);
    return content.bytes();
  }

  /** What certainly stays. */
  synced(): Buffer {
    return this.#durable.copy().bytes();
  }

  /**
   * As it may stand after a power cut: of what no sync covers any sectors, each as of any write to it. A truncation that
   * did not reach the disk keeps what was written after it from it, too, as journaling file systems do.
   */
  afterPowerCut(random: Random): Buffer {
    const sector = random.pick([512, 4096]);
    const share = random.pick([0, 0.5, 1]);
    const kept = this.#durable.copy();
    const now = this.#durable.copy();
    for (const change of this.#pending) {
      now.apply(change);
      if (change.kind === "truncate") {
        if (random.next() >= share) break;
        kept.apply(change);
        continue;
      }
      const end = change.at + change.data.length;
      for (let at = change.at - (change.at % sector); at < end; at += sector) {
        if (random.next() < share) kept.apply({ kind: "write", at, data: now.slice(at, at + sector) });
      }
    }
    // A size can reach the disk without the data.
    if (now.size > kept.size && random.next() < 0.2) kept.apply({ kind: "truncate", size: now.size });
    return kept.bytes();
  }
}

/** Bytes that grow. */
class Content {
  #bytes = Buffer.alloc(0);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  apply(change: Change): void {
    if (change.kind === "truncate") {
      this.#bytes.fill(0, Math.min(this.#size, change.size));
      this.#reach(change.size);
      this.#size = change.size;
    } else {
      this.#reach(change.at + change.data.length);
      change.data.copy(this.#bytes, change.at);
    }
  }

  /** Shorter where the file ends. */
  slice(from: number, to: number): Buffer {
    return this.#bytes.subarray(from, Math.min(to, this.#size));
  }

  copy(): Content {
    const copy = new Content();
    copy.#bytes = Buffer.from(this.bytes());
    copy.#size = this.#size;
    return copy;
  }

  bytes(): Buffer {
    return this.#bytes.subarray(0, this.#size);
  }

  #reach(size: number): void {
    if (size > this.#bytes.length) {
      const grown = Buffer.alloc(Math.max(size, this.#bytes.length * 2));
      this.#bytes.copy(grown, 0, 0, this.#size);
      this.#bytes = grown;
    }
    this.#size = Math.max(this.#size, size);
  }
}
