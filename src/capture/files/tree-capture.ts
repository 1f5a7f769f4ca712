import fs, { type BigIntStats } from "node:fs";

import type { Logger } from "pino";

import type { Offset } from "../../event/positions.ts";
import { type ByteString, parentPath, pathBelow, type TreePath } from "../../event/tree-path.ts";
import type { Clock } from "../../runtime/clock.ts";
import { errnoOf, TidemarkError } from "../../runtime/errors.ts";
import { FileCapture } from "./file-capture.ts";
import type { FileIndex } from "./file-index.ts";
import type { LargeFiles } from "./large-files.ts";
import type { Outbox } from "./outbox.ts";
import type { OwnFiles } from "./own-files.ts";
import { Publisher } from "./publisher.ts";
import { Selection, type SelectionPatterns } from "./selection.ts";
import { countTree, ScanProgress } from "./scan-progress.ts";
import {
  type GuardedTree,
  missingError,
  requireFewRemovals,
  requireNotEmptied,
  unreadableError,
} from "./tree-guards.ts";
import type { TreeParts } from "./tree-parts.ts";
import { type PassOptions, TreePass } from "./tree-pass.ts";
import { TreeProblems } from "./tree-problems.ts";
import type { Dirty, Findings, LookOptions, Removal, TreeCapture, TreeFigures } from "./tree-seam.ts";

export interface TreeOptions {
  readonly tree: SelectionPatterns & {
    readonly name: string;
    /** Absolute path of a directory or a single file; may be a link to it. */
    readonly path: string;
    readonly maxDeleteShare: number;
  };
  readonly index: FileIndex;
  /** One for all trees of the index. */
  readonly outbox: Outbox;
  readonly own: OwnFiles;
  readonly large: LargeFiles;
  /** Whatever is gone at the first scan is meant to be gone. */
  readonly acceptEmpty: boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** One tree: compares it with the index, and sends what differs. */
export class FileTree implements TreeCapture {
  readonly name: string;
  readonly root: string;
  readonly #options: TreeOptions;
  readonly #parts: TreeParts;
  readonly #files: FileCapture;
  readonly #closed = new AbortController();
  readonly #unlisted = new Map<TreePath, ByteString>();
  #acceptsEmpty: boolean;
  /** Real path of the root when it was last looked at. */
  #lastRoot: string;

  constructor(options: TreeOptions) {
    const { tree, index, outbox, own, large, clock, logger } = options;
    this.name = tree.name;
    this.root = tree.path;
    this.#lastRoot = tree.path;
    this.#options = options;
    this.#acceptsEmpty = options.acceptEmpty;
    const entries = index.tree(tree.name);
    this.#parts = {
      name: tree.name,
      entries,
      publisher: new Publisher(outbox, index, entries),
      selection: new Selection(tree),
      own,
      problems: new TreeProblems(logger, tree.name),
      touched: new Set(),
      large,
      clock,
      logger,
      closed: this.#closed.signal,
    };
    this.#files = new FileCapture(this.#parts);
  }

  async scan(options: LookOptions & { progress: (done: number, total: number) => void }): Promise<Findings> {
    const { entries } = this.#parts;
    const known = entries.files;
    const root = this.#realRoot();
    this.#guardRoot(root, known);
    const progress = new ScanProgress(entries, options.progress);
    const counting = new AbortController();
    if (known === 0)
      void countTree(root, AbortSignal.any([options.signal, counting.signal]), (one) => progress.expect(one));
    try {
      const { signal, enter } = options;
      const onCompared = (files: number, bytes: number): void => progress.add(files, bytes);
      const pass = this.#pass({ signal, enter, root, deadlineMs: Infinity, onCompared });
      const forget = this.#parts.problems.round();
      await pass.all();
      signal.throwIfAborted();
      forget();
      const { findings } = pass;
      if (!this.#acceptsEmpty) this.#guardRemovals(findings.removals, known);
      this.#acceptsEmpty = false;
      return findings;
    } finally {
      counting.abort();
    }
  }

  async look(dirty: Dirty, options: LookOptions & { deadlineMs: number }): Promise<Findings> {
    const known = this.#parts.entries.files;
    const root = this.#realRoot();
    const pass = this.#pass({ ...options, root, onCompared: () => undefined });
    await pass.some(dirty);
    options.signal.throwIfAborted();
    const { findings } = pass;
    if (findings.removals.length > 0) {
      // What came and went meanwhile never made up the tree.
      this.#guardRoot(root, known);
      this.#guardRemovals(findings.removals, known);
    }
    return findings;
  }

  captures(path: TreePath, stat: BigIntStats): boolean {
    const { own, selection } = this.#parts;
    return own.find(path, stat) === undefined && selection.of(path, stat.isDirectory()) !== "skip";
  }

  mayCapture(path: TreePath): boolean {
    const { own, selection } = this.#parts;
    if (own.has(path)) return false;
    return selection.of(path, false) !== "skip" || selection.of(path, true) !== "skip";
  }

  pathOf(file: ByteString): TreePath | undefined {
    return pathBelow(this.#lastRoot, file);
  }

  reads(path: TreePath): boolean {
    return this.#files.reads(path);
  }

  async remove(removals: readonly Removal[]): Promise<void> {
    const { entries, publisher } = this.#parts;
    const root = this.#realRoot();
    const pass = this.#pass({ root, signal: this.#closed.signal, enter: () => false, deadlineMs: Infinity });
    for (const { path, kind } of removals) {
      const entry = entries.get(path);
      if (!entry || (entry.kind === "dir") !== (kind === "dir.remove") || !pass.isGone(path)) continue;
      pass.lookAgain(entries.otherNames(path));
      publisher.remove({ kind, tree: this.name, path });
      pass.touch(parentPath(path));
      await publisher.room();
    }
    await pass.finish();
  }

  storing(acknowledged: Offset): Iterable<void> {
    return this.#options.index.storing(acknowledged);
  }

  figures(): TreeFigures {
    const { entries, problems } = this.#parts;
    const { pendingBytes, unstableReads } = this.#files;
    return { files: entries.files, bytes: entries.bytes, pendingBytes, unstableReads, problem: problems.summary };
  }

  close(): void {
    this.#closed.abort();
  }

  #pass(options: Omit<PassOptions, "unlisted" | "onCompared"> & Partial<Pick<PassOptions, "onCompared">>): TreePass {
    this.#parts.own.refresh(options.root);
    const onCompared = options.onCompared ?? ((): void => undefined);
    return new TreePass(this.#parts, this.#files, { ...options, onCompared, unlisted: this.#unlisted });
  }

  /** The root may be a link. @throws TREE_MISSING */
  #realRoot(): string {
    try {
      return (this.#lastRoot = fs.realpathSync(this.root));
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === "ENOENT" || errno === "ENOTDIR") throw missingError(this.#guarded, this.#parts.entries.files);
      throw unreadableError(this.#guarded, error);
    }
  }

  /** @throws TREE_MISSING, TREE_EMPTIED */
  #guardRoot(root: string, known: number): void {
    try {
      if (!fs.statSync(root).isDirectory()) return;
      const directory = fs.opendirSync(root);
      const first = directory.readSync();
      directory.closeSync();
      if (!first && !this.#acceptsEmpty) requireNotEmptied(this.#guarded, known);
    } catch (error) {
      if (error instanceof TidemarkError) throw error;
      throw unreadableError(this.#guarded, error);
    }
  }

  /** What was moved is gone and new: only what the tree loses counts. @throws MASS_DELETION */
  #guardRemovals(removals: readonly Removal[], known: number): void {
    const { entries } = this.#parts;
    const gone = removals.reduce((sum, { path }) => sum + entries.filesAt(path), 0);
    requireFewRemovals(this.#guarded, gone - (entries.files - known), known);
  }

  get #guarded(): GuardedTree {
    const { name, path, maxDeleteShare } = this.#options.tree;
    return { name, root: path, maxDeleteShare };
  }
}
