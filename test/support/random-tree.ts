import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import { setAttributeSync } from "@napi-rs/xattr";

import type { Random } from "./random.ts";

const NAMES = ["a", "b", "c", "d.txt", "e f", "ü", "-x", "z\nz", "\u{1f600}", ".h"] as const;
const NOT_TEXT = Buffer.from([0x66, 0xff, 0xfe, 0x80]);

/** Changes a directory in every way that a replica must follow. */
export class RandomTree {
  readonly root: string;
  readonly #random: Random;

  constructor(root: string, random: Random) {
    this.root = root;
    this.#random = random;
    fs.mkdirSync(root, { recursive: true });
  }

  change(times: number): void {
    for (let i = 0; i < times; i += 1) this.#changeOnce();
  }

  #changeOnce(): void {
    const random = this.#random;
    const place = this.#place();
    const act = random.integer(0, 15);
    if (act <= 4) this.#write(place);
    else if (act <= 6) this.#replaced(place, () => fs.mkdirSync(place));
    else if (act === 7)
      this.#replaced(place, () => fs.symlinkSync(random.pick(["a", "/nowhere", "../..", "d.txt"]), place));
    else if (act === 8) fs.rmSync(place, { recursive: true, force: true });
    else if (act === 9) this.#rename(place, this.#place());
    else if (act === 10) this.#link(this.#place(), place);
    else if (act === 11)
      this.#existing(place, () => fs.chmodSync(place, random.pick([0o644, 0o600, 0o4755, 0o000, 0o1777, 0o555])));
    else if (act === 12)
      this.#existing(place, () =>
        fs.utimesSync(place, random.integer(-1000, 2 ** 31), random.integer(-1000, 2 ** 32) + 0.123456),
      );
    else if (act === 13)
      this.#existing(place, () => fs.chownSync(place, random.integer(0, 3000), random.integer(0, 3000)));
    else if (act === 14)
      this.#existing(place, () =>
        setAttributeSync(place, `user.${random.pick(["x", "y"])}`, random.bytes(random.integer(0, 20))),
      );
    else this.#notText(place);
  }

  /** A path whose directory is there. */
  #place(): string {
    let at = this.root;
    for (;;) {
      const next = path.join(at, this.#random.pick(NAMES));
      if (!isDirectory(next) || this.#random.next() < 0.4) return next;
      at = next;
    }
  }

  #write(place: string): void {
    const random = this.#random;
    if (isDirectory(place)) return;
    if (fs.lstatSync(place, { throwIfNoEntry: false })?.isSymbolicLink()) fs.unlinkSync(place);
    const bytes = random.integer(0, 20) === 0 ? random.integer(300_000, 1_500_000) : random.integer(0, 3000);
    const data =
      random.integer(0, 9) === 0 ? Buffer.alloc(bytes) : Buffer.alloc(bytes, random.bytes(Math.min(bytes, 5000) || 1));
    const how = random.integer(0, 3);
    if (how === 0 && fs.existsSync(place)) fs.appendFileSync(place, data);
    else if (how === 1) fs.writeFileSync(place, data);
    else if (how === 2 && fs.existsSync(place)) patch(place, data, random.integer(0, fs.statSync(place).size));
    else {
      fs.writeFileSync(`${this.root}/.saving`, data);
      fs.renameSync(`${this.root}/.saving`, place);
    }
  }

  #replaced(place: string, make: () => void): void {
    fs.rmSync(place, { recursive: true, force: true });
    make();
  }

  #rename(from: string, to: string): void {
    if (
      !fs.lstatSync(from, { throwIfNoEntry: false }) ||
      `${to}/`.startsWith(`${from}/`) ||
      `${from}/`.startsWith(`${to}/`)
    )
      return;
    fs.rmSync(to, { recursive: true, force: true });
    fs.renameSync(from, to);
  }

  #link(from: string, to: string): void {
    if (from === to || !fs.lstatSync(from, { throwIfNoEntry: false })?.isFile()) return;
    fs.rmSync(to, { recursive: true, force: true });
    if (fs.existsSync(from)) fs.linkSync(from, to);
  }

  #existing(place: string, act: () => void): void {
    const stat = fs.lstatSync(place, { throwIfNoEntry: false });
    if (stat && !stat.isSymbolicLink()) act();
  }

  #notText(place: string): void {
    if (!isDirectory(place)) return;
    fs.writeFileSync(Buffer.concat([Buffer.from(`${place}/`), NOT_TEXT]), this.#random.bytes(10));
  }
}

function isDirectory(place: string): boolean {
  return fs.lstatSync(place, { throwIfNoEntry: false })?.isDirectory() === true;
}

function patch(place: string, data: Uint8Array, at: number): void {
  const fd = fs.openSync(place, "r+");
  fs.writeSync(fd, data, 0, data.length, at);
  fs.closeSync(fd);
}

/** What rsync would do to make `copy` like `original`, but for what matches a pattern of `leaveOut`: nothing when they are the same. */
export function differences(original: string, copy: string, leaveOut: readonly string[] = []): string {
  const of = (place: string): string => (isDirectory(place) ? `${place}/` : place);
  const but = leaveOut.map((pattern) => `--exclude=${pattern}`);
  const args = ["-n", "-aHX", "--checksum", "--delete", "--itemize-changes", ...but, of(original), of(copy)];
  return execFileSync("rsync", args, { encoding: "utf8" });
}
