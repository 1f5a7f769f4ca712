import fs from "node:fs";

import type { TreePath } from "../../event/tree-path.ts";
import { errnoOf, hasCode } from "../../runtime/errors.ts";
import { O_PATH, type SafeWalk } from "./safe-walk.ts";

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;

/** Looks at places below the standby's root. Paths are relative to it, trees' names included. No symbolic link is followed. */
export class TreeReader {
  readonly #walk: SafeWalk;

  constructor(walk: SafeWalk) {
    this.#walk = walk;
  }

  /** What stands there. */
  stat(at: TreePath): fs.BigIntStats | undefined {
    try {
      return fs.lstatSync(this.#walk.place(at), { bigint: true, throwIfNoEntry: false });
    } catch (error) {
      // Beyond what is no directory there is nothing.
      if (errnoOf(error) === "ENOENT" || hasCode(error, "PATH_UNSAFE")) return undefined;
      throw error;
    }
  }

  /** What is no file is not waited for. */
  openFile(at: TreePath): number {
    const place = this.#walk.place(at);
    try {
      return fs.openSync(place, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    } catch (error) {
      if (errnoOf(error) !== "EACCES") throw error;
      return openOwn(place);
    }
  }

  readLink(at: TreePath): Buffer {
    return fs.readlinkSync(this.#walk.place(at), { encoding: "buffer" });
  }

  /** Names in a directory. */
  list(at: TreePath): Buffer[] {
    const list = (): Buffer[] => fs.readdirSync(this.#walk.inside(at), { encoding: "buffer" });
    try {
      return list();
    } catch (error) {
      if (errnoOf(error) !== "EACCES" || !this.#walk.loosen(at)) throw error;
      return list();
    }
  }

  /** A path by which a directory's attributes can be read. Valid until the next call. @throws PATH_UNSAFE when it is none */
  inside(at: TreePath): string {
    return this.#walk.inside(at);
  }

  /** Of a file whose path is text, for what takes no bytes. Valid until the next call. */
  textPlace(at: TreePath): string {
    return this.#walk.place(at).toString();
  }
}

/** A file with permissions under which not even its owner, who we are, may open it. */
function openOwn(place: Buffer): number {
  const fd = fs.openSync(place, O_PATH | O_NOFOLLOW);
  try {
    const own = `/proc/self/fd/${fd}`;
    const mode = fs.fstatSync(fd).mode & 0o7777;
    fs.chmodSync(own, mode | 0o400);
    try {
      return fs.openSync(own, "r");
    } finally {
      fs.chmodSync(own, mode);
    }
  } finally {
    fs.closeSync(fd);
  }
}
