import type { LogEvent } from "../event/kinds.ts";
import type { Offset } from "../event/positions.ts";
import { TidemarkError } from "../runtime/errors.ts";
import type { FileEntry, TreeEntry, TreeIndex } from "../tree/tree-index.ts";
import { parentOf, shownPath, type TreePath } from "../tree/tree-path.ts";
import type { PathFilter } from "./path-filter.ts";
import { TreePlan } from "./tree-plan.ts";

export interface TreePlannerOptions {
  readonly index: TreeIndex;
  /** First offset that the log still holds. */
  readonly firstOffset: Offset;
  readonly targetOffset: Offset;
  /** Undefined: everything. */
  readonly filter: PathFilter | undefined;
  /** See TreePlan. */
  readonly file: string;
}

/** Name of something in a tree as people see it: `uploads/2026/a.pdf`. */
export function shownName(tree: string, path: TreePath): string {
  return path === "" ? tree : `${tree}/${shownPath(path)}`;
}

/**
 * Decides what is brought back of the trees in an index, and from which records.
 *
 * @throws OFFSET_NOT_FOUND when the log no longer holds all of a tree, RECORD_INVALID when it contradicts itself
 */
export function planTrees(options: TreePlannerOptions): TreePlan {
  const plan = new TreePlan(options.file);
  try {
    for (const tree of options.index.names()) new OneTree(tree, plan, options).add();
    return plan;
  } catch (error) {
    plan[Symbol.dispose]();
    throw error;
  }
}

class OneTree {
  readonly #tree: string;
  readonly #plan: TreePlan;
  readonly #options: TreePlannerOptions;
  /** First names of files that have several. */
  readonly #twins = new Map<string, number>();

  constructor(tree: string, plan: TreePlan, options: TreePlannerOptions) {
    this.#tree = tree;
    this.#plan = plan;
    this.#options = options;
  }

  add(): void {
    const { index, filter } = this.#options;
    for (const entry of index.entries(this.#tree)) {
      if (filter && !filter.matches(shownName(this.#tree, entry.path))) continue;
      this.#requireWhole();
      this.#addAbove(entry);
      if (this.#plan.numberOf(this.#tree, entry.path) === undefined) this.#addEntry(entry);
    }
  }

  /** What came before the log's first record is not known, and nothing says that all of it came again. */
  #requireWhole(): void {
    const { firstOffset, targetOffset } = this.#options;
    if (firstOffset > 1) throw notWhole(this.#tree, firstOffset, targetOffset);
  }

  #addAbove({ path, offset: at }: TreeEntry): void {
    if (path === "") return;
    const above = parentOf(path);
    if (this.#plan.numberOf(this.#tree, above) !== undefined) return;
    const entry = this.#options.index.entry(this.#tree, above);
    if (entry?.kind !== "dir") throw withoutDirectory(shownName(this.#tree, path), at);
    this.#addAbove(entry);
    this.#addEntry(entry);
  }

  #addEntry(entry: TreeEntry): void {
    const { kind, path } = entry;
    if (kind !== "file") return void this.#plan.add({ tree: this.#tree, path, kind, twin: null, bytes: 0 });
    const key = entry.group === undefined ? undefined : twinKey(entry);
    const twin = key === undefined ? undefined : this.#twins.get(key);
    const item = this.#plan.add({ tree: this.#tree, path, kind, twin: twin ?? null, bytes: entry.size });
    if (twin !== undefined) return;
    if (key !== undefined) this.#twins.set(key, item);
    this.#addContent(item, entry);
  }

  #addContent(item: number, entry: FileEntry): void {
    let position = 0;
    for (const { id, bytes } of entry.chunks) {
      const at = this.#options.index.contentOffset(id);
      if (at === undefined) throw withoutContent(shownName(this.#tree, entry.path), entry.offset);
      this.#plan.addPlace(at, { item, position, bytes });
      position += bytes;
    }
  }
}

/** At a point between the records of two names of one file they may differ: then they are two files. */
function twinKey({ group, hash, metadata }: FileEntry): string {
  const { mode, uid, gid, mtimeNs } = metadata;
  return [group, Buffer.from(hash).toString("hex"), mode, uid, gid, mtimeNs].join(" ");
}
