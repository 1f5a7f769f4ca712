import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import { expect } from "vitest";

import type { EventBody } from "../../../src/event/kinds.ts";
import type { Offset } from "../../../src/event/positions.ts";
import { LogHistory } from "../../../src/restore/log-history.ts";
import { parseRestoreTarget } from "../../../src/restore/restore-target.ts";
import { restore, type RestoreOptions, type RestorePreview, type RestoreReport } from "../../../src/restore/restore.ts";
import { systemClock } from "../../../src/runtime/clock.ts";
import { foldOf, type Picture, pictureOf, TreeScene } from "../../support/tree-scene.ts";

type Call = Partial<Omit<RestoreOptions, "target">> & { readonly to?: string | number };

/** A real tree, captured into a real log, and restores from it. */
export class TreeBench implements AsyncDisposable {
  readonly scene: TreeScene;
  #targets = 0;

  private constructor(scene: TreeScene) {
    this.scene = scene;
  }

  static async open(): Promise<TreeBench> {
    return new TreeBench(await TreeScene.open());
  }

  sh(script: string): void {
    execFileSync("bash", ["-ec", script], { cwd: this.scene.root, stdio: ["ignore", "ignore", "inherit"] });
  }

  /** Changes to the tree, and what capture makes of them. */
  async change(script: string): Promise<Offset> {
    this.sh(script);
    await this.scene.scan();
    return this.head;
  }

  get head(): Offset {
    return this.scene.writer.acknowledged.offset;
  }

  /** Straight into the log, as no capture would write it. */
  async append(...bodies: readonly EventBody[]): Promise<Offset> {
    return this.scene.writer.append(bodies).acknowledged;
  }

  newTarget(): string {
    this.#targets += 1;
    return path.join(this.scene.directory, "targets", `restored-${this.#targets}`);
  }

  async restore(call: Call = {}): Promise<RestoreReport> {
    const report = await restore({ ...this.#options(call), dryRun: false });
    if ("dryRun" in report) throw new Error("a dry run's report");
    return report;
  }

  async preview(call: Call = {}): Promise<RestorePreview> {
    const report = await restore({ ...this.#options(call), dryRun: true });
    if (!("dryRun" in report)) throw new Error("no dry run's report");
    return report;
  }

  /** What the log says of the tree at an offset. */
  async pictureAt(offset: number): Promise<Picture> {
    return foldOf((await this.scene.events()).filter((event) => event.offset <= offset));
  }

  /** Relative paths of everything below a restored directory. */
  names(target: string): string[] {
    return fs.readdirSync(target, { recursive: true, encoding: "utf8" }).toSorted();
  }

  /** Everything below the directory of targets: nothing must be left there by a restore that failed. */
  leftInTargets(): string[] {
    const parent = path.join(this.scene.directory, "targets");
    return fs.existsSync(parent) ? fs.readdirSync(parent) : [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.scene[Symbol.asyncDispose]();
  }

  #options({ to = "latest", ...call }: Call): Omit<RestoreOptions, "dryRun"> {
    return {
      history: new LogHistory(this.scene.log),
      target: parseRestoreTarget(String(to)),
      directory: this.newTarget(),
      check: "quick",
      force: false,
      clock: systemClock,
      signal: new AbortController().signal,
      ...call,
    };
  }
}

/** Times come back to a quarter of a microsecond. */
export function expectRestored(target: string, expected: Picture): void {
  const found = pictureOf(path.join(target, "uploads"));
  expect(Object.keys(found)).toEqual(Object.keys(expected));
  for (const [at, text] of Object.entries(expected)) expect(withTimesOf(text, found[at] ?? ""), at).toBe(text);
}

function withTimesOf(expected: string, found: string): string {
  const times = expected.split(" ");
  return found
    .split(" ")
    .map((word, index) => (isNear(word, times[index] ?? "") ? (times[index] ?? "") : word))
    .join(" ");
}

function isNear(one: string, other: string): boolean {
  if (!/^-?\d{15,19}$/.test(one) || !/^-?\d{15,19}$/.test(other)) return false;
  const apart = BigInt(one) - BigInt(other);
  const allowed = other.startsWith("-") ? 1_000_000n : 1000n;
  return apart <= allowed && apart >= -allowed;
}
