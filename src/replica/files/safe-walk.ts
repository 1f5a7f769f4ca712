import fs from "node:fs";

import {
  type ByteString,
  bytesOf,
  joinPath,
  nameOf,
  parentPath,
  shownPath,
  type TreePath,
} from "../../event/tree-path.ts";
import { errnoOf, TidemarkError } from "../../runtime/errors.ts";

const { O_DIRECTORY, O_NOFOLLOW } = fs.constants;
/** Of Linux; Node does not name it. A descriptor that is only a place: no right to read is needed. */
export const O_PATH = 0o10000000;
const OWNER_ACCESS = 0o700;

interface Step {
  readonly name: ByteString;
  readonly fd: number;
}

/**
 * Leads to places below a directory without following a symbolic link on the way: each part is opened on its own, below
 * the one before. What is done at a place is done through the descriptor of its directory, so nobody can put a link in
 * between. The descriptors of the way to the last place stay open: the next one is mostly near it.
 */
export class SafeWalk implements Disposable {
  readonly #root: string;
  readonly #rootFd: number;
  readonly #steps: Step[] = [];
  readonly #loosened = new Set<TreePath>();

  /** `root` itself may be a symbolic link. */
  constructor(root: string) {
    this.#root = root;
    this.#rootFd = fs.openSync(root, O_PATH | O_DIRECTORY);
  }

  /** Directories that were given more rights than they should have, because we could not work in them. */
  takeLoosened(): readonly TreePath[] {
    const loosened = [...this.#loosened];
    this.#loosened.clear();
    return loosened;
  }

  /** For calls of node:fs that do not follow a link at the end. Valid until the next call. @throws as `directory` */
  place(path: TreePath): Buffer {
    const directory = this.directory(parentPath(path));
    return Buffer.concat([Buffer.from(`/proc/self/fd/${directory}/`), bytesOf(nameOf(path))]);
  }

  /** Way to a directory itself, for calls that take no bytes or do not follow the link of /proc. Valid until the next call. */
  inside(path: TreePath): string {
    return `/proc/self/fd/${this.directory(path)}/.`;
  }

  /** Descriptor of a directory, good as a place only. Valid until the next call. @throws ENOENT; PATH_UNSAFE when it, or one before it, is none */
  directory(path: TreePath): number {
    const parts = path === "" ? [] : path.split("/");
    let known = 0;
    while (known < parts.length && this.#steps[known]?.name === parts[known]) known += 1;
    this.#cut(known);
    for (const name of parts.slice(known)) this.#steps.push({ name, fd: this.#enter(name, parts) });
    return this.#steps.at(-1)?.fd ?? this.#rootFd;
  }

  /** Forgets descriptors of what is at a place and below it: it is removed, or may have been replaced. */
  forget(path: TreePath): void {
    const parts = path.split("/");
    const on = parts.every((name, depth) => this.#steps[depth]?.name === name);
    if (path === "") this.#cut(0);
    else if (on) this.#cut(parts.length - 1);
  }

  /** Lets go of the way to the last place: others may change it. */
  rest(): void {
    this.#cut(0);
  }

  [Symbol.dispose](): void {
    this.#cut(0);
    fs.closeSync(this.#rootFd);
  }

  #enter(name: ByteString, parts: readonly ByteString[]): number {
    const above = this.#steps.at(-1)?.fd ?? this.#rootFd;
    const at = parts.slice(0, this.#steps.length).join("/") as TreePath;
    const place = Buffer.concat([Buffer.from(`/proc/self/fd/${above}/`), bytesOf(name)]);
    try {
      return fs.openSync(place, O_PATH | O_DIRECTORY | O_NOFOLLOW);
    } catch (error) {
      if (errnoOf(error) === "EACCES" && this.loosen(at)) return fs.openSync(place, O_PATH | O_DIRECTORY | O_NOFOLLOW);
      if (errnoOf(error) !== "ENOTDIR" && errnoOf(error) !== "ELOOP") throw error;
      throw this.#unsafe(joinPath(at, name), place);
    }
  }

  /** Gives ourselves access to a directory of ours; false when it is not for the want of it. Of the root: nothing. */
  loosen(path: TreePath): boolean {
    if (path === "" || this.#loosened.has(path)) return false;
    const directory = `/proc/self/fd/${this.directory(path)}`;
    const mode = fs.statSync(directory).mode & 0o7777;
    if ((mode & OWNER_ACCESS) === OWNER_ACCESS) return false;
    fs.chmodSync(directory, mode | OWNER_ACCESS);
    this.#loosened.add(path);
    return true;
  }

  #unsafe(path: TreePath, place: Buffer): TidemarkError {
    const isLink = fs.lstatSync(place, { throwIfNoEntry: false })?.isSymbolicLink() === true;
    const what = isLink ? "is a symbolic link, which might lead out of the standby" : "is no directory";
    return new TidemarkError(
      "PATH_UNSAFE",
      `${this.#root}/${shownPath(path)} ${what}; the log says it is a directory`,
      {
        hint: "Find out who put it there and remove it: the standby then puts everything below it back. To keep a tree on another volume, mount that there.",
      },
    );
  }

  #cut(depth: number): void {
    for (const { fd } of this.#steps.splice(depth)) fs.closeSync(fd);
  }
}
