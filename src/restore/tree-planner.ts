import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";

import type { LogEvent } from "../event/kinds.ts";
import type { Offset } from "../event/positions.ts";
import { type ByteString, bytesOf, parentPath, shownPlace } from "../event/tree-path.ts";
import { nearestName } from "../config/nearest-name.ts";
import { requireTreeName } from "../replica/files/standby-path.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { chunksOfEntry, type FileEntry, type TreeEntry, TreeIndex } from "../tree/tree-index.ts";
import { PathFilter } from "./path-filter.ts";
import { type ContentSource, TreePlan } from "./tree-plan.ts";

export interface TreePlannerOptions {
  /** First event that the planner is told of. */
  readonly firstOffset: Offset;
  readonly targetOffset: Offset;
  /** The planner begins with what a base holds: see `begin`. */
  readonly fromBase: boolean;
  /** Contents that came up to here are blobs of a repository, those that came later are in the log's records. */
  readonly archivedThrough: Offset;
  /** Globs over names as people see them; undefined: everything. */
  readonly paths: readonly string[] | undefined;
  /** Where its database is kept meanwhile; undefined: in a file of SQLite's own. */
  readonly directory: string | undefined;
}

export interface PlannedTrees {
  /** The trees at the target. */
  readonly index: TreeIndex;
  /** What of them is brought back. */
  readonly plan: TreePlan;
}

/** Folds the log's events into what the trees look like at the target, then decides what is brought back and from where. */
export class TreePlanner implements Disposable {
  readonly #options: TreePlannerOptions;
  readonly #database: Database.Database;
  readonly #index: TreeIndex;
  readonly #plan: TreePlan;
  /** First names of files that have several. */
  readonly #twins = new Map<number, number>();
  /** Trees of which the log may no longer hold the beginning. */
  readonly #cut = new Set<string>();

  constructor(options: TreePlannerOptions) {
    this.#options = options;
    const file = options.directory === undefined ? "" : path.join(options.directory, "plan.db");
    // A killed restore's.
    if (file !== "") fs.rmSync(file, { force: true });
    this.#database = new Database(file);
    // Nobody reads it after a crash.
    this.#database.pragma("journal_mode=OFF");
    this.#database.pragma("synchronous=OFF");
    this.#index = new TreeIndex(this.#database);
    this.#plan = new TreePlan(this.#database);
    this.#database.exec("BEGIN");
  }

  /** Every entry of a base, a directory before what is in it; before all events. */
  begin(entry: TreeEntry): void {
    this.#index.insert(entry);
  }

  /** Every event up to the target, in order; those of databases may be left out. @throws RECORD_INVALID */
  take(event: LogEvent): void {
    const { body } = event;
    // What came before the first event is not known without a base, and nothing says that all of it came again.
    if (this.#options.fromBase || this.#options.firstOffset === 1) this.#index.apply(event);
    else if ("tree" in body) this.#cut.add(body.tree);
  }

  get isEmpty(): boolean {
    return this.#cut.size === 0 && this.#index.names().length === 0;
  }

  /**
   * @throws OFFSET_NOT_FOUND when the log no longer holds all of a tree, RECORD_INVALID when it contradicts itself, USAGE
   *   when a path is asked for that is not there
   */
  plan(): PlannedTrees {
    const [cut] = this.#cut;
    if (cut !== undefined) throw cutOff(cut, this.#options);
    const { paths } = this.#options;
    const filter = paths && new PathFilter(paths);
    for (const tree of this.#index.names()) {
      requireTreeName(tree);
      this.#planTree(tree, filter);
    }
    if (filter?.unused !== undefined)
      throw nothingThere(filter.unused, this.#index.names(), this.#options.targetOffset);
    return { index: this.#index, plan: this.#plan };
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }

  #planTree(tree: string, filter: PathFilter | undefined): void {
    this.#twins.clear();
    for (const entry of this.#index.entries(tree)) {
      if (filter && !filter.matches(shownPlace(tree, entry.path))) continue;
      this.#addAbove(entry);
      if (!this.#plan.has(tree, entry.path)) this.#add(entry);
    }
  }

  /** The directories on the way there come too. */
  #addAbove({ tree, path: place, offset: at }: TreeEntry): void {
    if (place === "") return;
    const above = parentPath(place);
    if (this.#plan.has(tree, above)) return;
    const entry = this.#index.entry(tree, above);
    if (entry?.kind !== "dir") throw contradiction(at, `${shownPlace(tree, place)} is in no directory`);
    this.#addAbove(entry);
    this.#add(entry);
  }

  #add(entry: TreeEntry): void {
    const { tree, kind, path: place } = entry;
    if (kind !== "file") return void this.#plan.add({ tree, path: place, kind, twin: null, bytes: 0 });
    const { group } = entry;
    const twin = group === undefined ? undefined : this.#twins.get(group);
    const item = this.#plan.add({ tree, path: place, kind, twin: twin ?? null, bytes: entry.size });
    if (twin !== undefined) return;
    if (group !== undefined) this.#twins.set(group, item);
    this.#addContent(item, entry);
  }

  #addContent(item: number, entry: FileEntry): void {
    let position = 0;
    for (const { id, size: bytes } of chunksOfEntry(entry)) {
      this.#plan.addPlace(this.#sourceOf(id, entry), { item, position, bytes });
      position += bytes;
    }
  }

  #sourceOf(id: ByteString, entry: FileEntry): ContentSource {
    const at = this.#index.contentOffset(id);
    if (at !== undefined && at > this.#options.archivedThrough) return { offset: at };
    if (this.#options.archivedThrough > 0) return { blob: bytesOf(id) };
    const name = shownPlace(entry.tree, entry.path);
    throw contradiction(entry.offset, `${name} needs content that is in no record before`);
  }
}

function cutOff(tree: string, { firstOffset, targetOffset }: TreePlannerOptions): TidemarkError {
  return new TidemarkError(
    "OFFSET_NOT_FOUND",
    `${tree} at offset ${targetOffset}: what is there begins at ${firstOffset} and need not hold all of it up to there`,
    { hint: "Restore the databases alone: name each with `--database`." },
  );
}

function contradiction(at: Offset, what: string): TidemarkError {
  return new TidemarkError("RECORD_INVALID", `offset ${at}: ${what}`, {
    hint: `The writer of the log is at fault; report it. Points before offset ${at} can be restored.`,
  });
}

function nothingThere(wanted: string, trees: readonly string[], at: Offset): TidemarkError {
  const near = nearestName(wanted, trees);
  const question = near === undefined ? "" : `; did you mean ${near}?`;
  const hint =
    trees.length === 0
      ? "No tree had been captured by then."
      : `Paths begin with the name of a tree: ${trees.join(", ")}. Quote patterns, or the shell fills them in.`;
  return new TidemarkError("USAGE", `nothing in the log matches ${JSON.stringify(wanted)} at offset ${at}${question}`, {
    hint,
  });
}
