import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import type { Random } from "../random.ts";
import { Disk, type DiskBase, type DiskContent, type NameRules, readDisk } from "./disk.ts";
import { type DiskEffect, DiskJournal } from "./disk-journal.ts";

/** What programs did to the files below a directory, and the disks that a power cut at any moment could have left. */
export class DiskRecording implements Disposable {
  /** For the environment of the programs. */
  readonly env: Record<string, string>;
  readonly #root: string;
  readonly #directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-recording-"));
  readonly #base: DiskBase;
  readonly #journal: DiskJournal;

  /** @param root what is in it is taken to be on the disk */
  constructor(root: string) {
    this.#root = fs.realpathSync(root);
    this.#base = readDisk(this.#root);
    this.#journal = new DiskJournal(this.#directory, this.#root);
    this.env = this.#journal.env;
  }

  /** kill -9 of a recorded program. */
  kill(pid: number | undefined): void {
    if (pid !== undefined) this.#journal.kill(pid);
  }

  effects(): DiskEffect[] {
    return this.#journal.effects();
  }

  /** The disk after these effects. */
  replay(effects: readonly DiskEffect[], rules: NameRules = "strict"): Disk {
    const disk = new Disk(this.#base, rules);
    for (const effect of effects) disk.apply(effect);
    return disk;
  }

  /** Names of files that are not as the journal says. */
  differences(): string[] {
    const replayed = this.replay(this.effects()).now();
    const found = new Map(readDisk(this.#root).map(({ path: name, content }) => [name, content]));
    const names = new Set([...replayed.keys(), ...found.keys()]);
    return [...names].filter((name) => !same(replayed.get(name), found.get(name)));
  }

  /** Puts a disk as a power cut after `effects` may have left it in the place of the recorded one. */
  cutPower(effects: readonly DiskEffect[], random: Random): void {
    const rules = random.pick<NameRules>(["strict", "ordered"]);
    this.write(this.replay(effects, rules).afterPowerCut(random));
  }

  /** Makes the directory hold exactly this. */
  write(image: ReadonlyMap<string, DiskContent>): void {
    fs.rmSync(this.#root, { recursive: true, force: true });
    for (const [name, content] of image) {
      if (content === "directory") fs.mkdirSync(name);
      else fs.writeFileSync(name, content);
    }
  }

  [Symbol.dispose](): void {
    fs.rmSync(this.#directory, { recursive: true, force: true });
  }
}

function same(one: DiskContent | undefined, other: DiskContent | undefined): boolean {
  if (typeof one === "object" && typeof other === "object") return one.equals(other);
  return one === other;
}
