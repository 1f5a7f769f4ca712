import { type ByteString, fsPath, nameOf, parentPath, type TreePath } from "../../event/tree-path.ts";
import { errnoOf } from "../../runtime/errors.ts";
import { namesIn } from "./real-place.ts";
import type { TreeParts } from "./tree-parts.ts";

/** What directories of a tree hold. */
export class Listings {
  readonly #parts: Pick<TreeParts, "problems">;
  /** Real path of the tree. */
  readonly #root: string;
  readonly #kept = new Map<TreePath, ReadonlySet<ByteString>>();

  constructor(parts: Pick<TreeParts, "problems">, root: string) {
    this.#parts = parts;
    this.#root = root;
  }

  /** In the order of bytes. Undefined: it cannot be read, and what is known of it stays as it is. */
  names(directory: TreePath): readonly ByteString[] | undefined {
    const { problems } = this.#parts;
    try {
      const names = namesIn(fsPath(this.#root, directory));
      problems.over(directory);
      return names?.sort();
    } catch (error) {
      const errno = errnoOf(error);
      if (errno !== "ENOENT" && errno !== "ENOTDIR" && errno !== "ELOOP")
        problems.add(directory, `cannot be read (${errno ?? String(error)})`);
      return undefined;
    }
  }

  /** Whether its directory, as it was listed when this was asked first, has just this name, or cannot be read. */
  has(path: TreePath): boolean {
    const directory = parentPath(path);
    const names = this.#kept.get(directory) ?? new Set(this.names(directory) ?? [nameOf(path)]);
    this.#kept.set(directory, names);
    return names.has(nameOf(path));
  }
}
