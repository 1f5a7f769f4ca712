import fs from "node:fs";
import path from "node:path";

import type { Random } from "../random.ts";
import { DiskFile } from "./disk-file.ts";
import type { DiskEffect } from "./disk-journal.ts";

type NameChange = Extract<DiskEffect, { kind: "create" | "mkdir" | "rename" | "unlink" }>;

/** A name: a file's content, or a directory. */
type Node = DiskFile | "directory";

/** A change of names, and the directories whose sync makes it durable. */
interface PendingName {
  readonly change: NameChange;
  readonly node: Node | undefined;
  readonly unsynced: Set<string>;
}

/**
 * strict: a change of names is durable only when its directory was synced, and each other one is there or not.
 * ordered: names change in order, and any sync makes all changes before it durable, as ext4 and XFS do it.
 */
export type NameRules = "strict" | "ordered";

/** Everything below a directory, itself first. */
export type DiskBase = readonly { readonly path: string; readonly inode: bigint; readonly content: DiskContent }[];

export type DiskContent = Buffer | "directory";

export function readDisk(root: string): DiskBase {
  const names = fs.readdirSync(root, { recursive: true, encoding: "utf8" }).map((name) => path.join(root, name));
  const found = [root, ...names].map((name) => ({ name, stat: fs.statSync(name, { bigint: true }) }));
  return found
    .filter(({ name, stat }) => (stat.isFile() || stat.isDirectory()) && !name.endsWith("-shm"))
    .map(({ name, stat }) => ({
      path: name,
      inode: stat.ino,
      content: stat.isDirectory() ? "directory" : fs.readFileSync(name),
    }));
}

/** A disk as recorded effects leave it: what programs see, and what a power cut may leave. */
export class Disk {
  readonly #root: string;
  readonly #names: Map<string, Node>;
  readonly #durableNames: Map<string, Node>;
  #pendingNames: PendingName[] = [];
  readonly #inodes = new Map<bigint, DiskFile>();
  readonly #directories = new Map<bigint, string>();
  /** Names that were pending as a sync began. */
  readonly #syncs = new Map<bigint, PendingName[]>();
  readonly #rules: NameRules;

  /** @param base what was there, for good, before anything was recorded */
  constructor(base: DiskBase, rules: NameRules) {
    this.#root = base[0]?.path ?? "";
    this.#rules = rules;
    this.#names = new Map();
    for (const { path: name, inode, content } of base) {
      const node = content === "directory" ? content : new DiskFile(content);
      this.#names.set(name, node);
      if (node === "directory") this.#directories.set(inode, name);
      else this.#inodes.set(inode, node);
    }
    this.#durableNames = new Map(this.#names);
  }

  apply(effect: DiskEffect): void {
    switch (effect.kind) {
      case "write":
        return this.#file(effect.inode, effect.path).change(effect);
      case "truncate":
        return this.#file(effect.inode, effect.path).change(effect);
      case "sync-begin":
        return this.#beginSync(effect.inode, effect.token);
      case "sync-end":
        return this.#endSync(effect.inode, effect.token);
      case "create":
        this.#directories.delete(effect.inode);
        this.#inodes.set(effect.inode, new DiskFile());
        return this.#rename(effect, this.#inodes.get(effect.inode));
      case "mkdir":
        this.#directories.set(effect.inode, effect.path);
        return this.#rename(effect, "directory");
      case "rename":
      case "unlink":
        return this.#rename(effect, this.#names.get(effect.path));
      default:
        return effect satisfies never;
    }
  }

  /** What every program sees now: what stays when all of them are killed. */
  now(): Map<string, DiskContent> {
    return this.#image(this.#names, (file) => file.now());
  }

  /** One of the many things that the disk may hold when the power is cut now. */
  afterPowerCut(random: Random): Map<string, DiskContent> {
    const names = new Map(this.#durableNames);
    const share = random.pick([0, 0.5, 1]);
    const lost = new Set<string>();
    for (const { change, node } of this.#pendingNames) {
      const touched = change.kind === "rename" ? [change.path, change.to] : [change.path];
      // Changes of one name reach the disk in order.
      if (touched.some((name) => lost.has(name)) || random.next() >= share) {
        for (const name of touched) lost.add(name);
        if (this.#rules === "ordered") break;
      } else changeNames(names, change, node);
    }
    return this.#image(names, (file) => file.afterPowerCut(random));
  }

  /** The worst that a power cut may leave now: of what was not synced everything that `keeps` names, and nothing else. */
  afterWorstCut(keeps: (path: string) => boolean): Map<string, DiskContent> {
    const names = new Map(this.#durableNames);
    for (const { change, node } of this.#pendingNames) if (keeps(change.path)) changeNames(names, change, node);
    return this.#image(names, (file, name) => (keeps(name) ? file.now() : file.synced()));
  }

  #file(inode: bigint, name: string): DiskFile {
    const file = this.#inodes.get(inode);
    if (!file) throw new Error(`${name} was not made while it was recorded`);
    return file;
  }

  #rename(change: NameChange, node: Node | undefined): void {
    changeNames(this.#names, change, node);
    const unsynced = new Set([path.dirname(change.path)]);
    if (change.kind === "rename") unsynced.add(path.dirname(change.to));
    this.#pendingNames.push({ change, node, unsynced });
  }

  #beginSync(inode: bigint, token: bigint): void {
    this.#syncs.set(token, [...this.#pendingNames]);
    this.#inodes.get(inode)?.beginSync(token);
  }

  #endSync(inode: bigint, token: bigint): void {
    const directory = this.#directories.get(inode);
    const covered = this.#syncs.get(token) ?? [];
    this.#syncs.delete(token);
    if (directory === undefined) this.#inodes.get(inode)?.endSync(token);
    for (const pending of covered) {
      if (this.#rules === "ordered") pending.unsynced.clear();
      else if (directory !== undefined) pending.unsynced.delete(directory);
    }
    this.#pendingNames = this.#pendingNames.filter(({ change, node, unsynced }) => {
      if (unsynced.size === 0) changeNames(this.#durableNames, change, node);
      return unsynced.size > 0;
    });
  }

  #image(names: Map<string, Node>, bytesOf: (file: DiskFile, name: string) => Buffer): Map<string, DiskContent> {
    const image = new Map<string, DiskContent>();
    // Parents first: what lies in a directory that is not there is not there either.
    for (const name of [...names.keys()].toSorted()) {
      const node = names.get(name);
      if (!node || (name !== this.#root && image.get(path.dirname(name)) !== "directory")) continue;
      image.set(name, node === "directory" ? node : bytesOf(node, name));
    }
    return image;
  }
}

/** What cannot be done because an earlier change is missing is not done. */
function changeNames(names: Map<string, Node>, change: NameChange, node: Node | undefined): void {
  if (change.kind === "unlink") names.delete(change.path);
  else if (change.kind !== "rename") names.set(change.path, node ?? "directory");
  else if (node && names.get(change.path) === node) {
    names.delete(change.path);
    names.set(change.to, node);
  }
}
