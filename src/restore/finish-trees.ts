import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";

import type { PathMetadata } from "../event/kinds.ts";
import { bytesOf, fsPath, shownPlace } from "../event/tree-path.ts";
import { readUpTo } from "../sqlite/write-fully.ts";
import { errnoOf, TidemarkError } from "../runtime/errors.ts";
import { invariant } from "../runtime/invariant.ts";
import { applyMetadata, fileTime, mayChangeOwners } from "../tree/metadata.ts";
import type { FileEntry, TreeEntry } from "../tree/tree-index.ts";
import { requireGoingOn } from "./history.ts";
import { stagedFile } from "./tree-builder.ts";
import type { TreeItem } from "./tree-plan.ts";
import type { PlannedTrees } from "./tree-planner.ts";

const SLICE_BYTES = 1024 * 1024;
const STEPS_A_TURN = 32;
const SHOWN_REFUSALS = 3;
const { O_RDWR, O_CREAT, O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = fs.constants;

export interface FinishOptions {
  readonly trees: PlannedTrees;
  /** Where the contents are, see TreeBuilder. */
  readonly staged: string;
  /** The trees are made below this directory. */
  readonly directory: string;
  readonly signal: AbortSignal;
  readonly onBytes: (bytes: number) => void;
}

/** What the file system of the target, or our rights, did not take of the metadata. */
export interface Refusals {
  readonly count: number;
  /** `owner of uploads/a.pdf`, the first few of them. */
  readonly shown: readonly string[];
}

/**
 * When all contents are written: reads each back, compares its SHA-256 with the log's and only then gives the file its
 * metadata and its name; then the other names of files, then symbolic links, and at last the directories' own metadata,
 * innermost first, because every name that is made in one changes its time. Nothing that a log says can lead out of the
 * directory: it is empty at first, and while names are made in it there is no symbolic link.
 *
 * @throws CHECKSUM_MISMATCH, INTERRUPTED
 */
export async function finishTrees(options: FinishOptions): Promise<Refusals> {
  using finisher = new Finisher(options);
  return await finisher.finish();
}

class Finisher implements Disposable {
  readonly #options: FinishOptions;
  readonly #rootFd: number;
  /** Short, however deep the target lies: paths in a tree may take all that the system allows. */
  readonly #root: string;
  readonly #slice = Buffer.allocUnsafe(SLICE_BYTES);
  readonly #shown: string[] = [];
  #refused = 0;
  #steps = 0;

  constructor(options: FinishOptions) {
    this.#options = options;
    this.#rootFd = fs.openSync(options.directory, O_RDONLY | O_DIRECTORY);
    this.#root = `/proc/self/fd/${this.#rootFd}`;
  }

  [Symbol.dispose](): void {
    fs.closeSync(this.#rootFd);
  }

  async finish(): Promise<Refusals> {
    const { plan } = this.#options.trees;
    for (const item of plan.items("dir")) await this.#step(() => this.#makeDirectory(item));
    for (const item of plan.items("file")) if (item.twin === null) await this.#finishFile(item);
    for (const item of plan.items("file")) await this.#step(() => this.#makeTwin(item));
    for (const item of plan.items("link")) await this.#step(() => this.#makeLink(item));
    for (const item of plan.directoriesInnermostFirst()) await this.#step(() => this.#finishDirectory(item));
    return { count: this.#refused, shown: this.#shown };
  }

  /** Signals are only heard between. @throws INTERRUPTED */
  async #step(act: () => void): Promise<void> {
    requireGoingOn(this.#options.signal);
    act();
    this.#steps += 1;
    if (this.#steps % STEPS_A_TURN === 0) await nextTurn();
  }

  #makeDirectory(item: TreeItem): void {
    this.#makeWayTo(item);
    fs.mkdirSync(this.#place(item), { mode: 0o700 });
  }

  async #finishFile(item: TreeItem): Promise<void> {
    const entry = this.#entry(item, "file");
    const staged = stagedFile(this.#options.staged, item.number);
    // Empty ones, and those of zeros only, were never written.
    const fd = fs.openSync(staged, O_RDWR | O_CREAT, 0o600);
    try {
      fs.ftruncateSync(fd, entry.size);
      await this.#verify(fd, entry);
    } finally {
      fs.closeSync(fd);
    }
    await this.#step(() => {
      this.#applied(item, entry.metadata, applyMetadata(staged, entry.metadata));
      this.#makeWayTo(item);
      fs.renameSync(staged, this.#place(item));
    });
  }

  /** Notes what was refused; and the owner, for only root gives files away. */
  #applied({ tree, path: at }: TreeItem, { uid, gid }: Owner, refused: readonly string[]): void {
    const isForeign = uid !== process.geteuid?.() || gid !== process.getegid?.();
    const all = !mayChangeOwners && isForeign ? ["owner", ...refused] : refused;
    if (all.length === 0) return;
    this.#refused += 1;
    if (this.#shown.length < SHOWN_REFUSALS) this.#shown.push(`${all.join(", ")} of ${shownPlace(tree, at)}`);
  }

  /** What is on the disk, not what was sent there. */
  async #verify(fd: number, entry: FileEntry): Promise<void> {
    const digest = createHash("sha256");
    for (let position = 0; position < entry.size; position += SLICE_BYTES) {
      await this.#step(() => {
        const length = readUpTo(fd, this.#slice, position);
        digest.update(this.#slice.subarray(0, length));
        this.#options.onBytes(length);
      });
    }
    const found = digest.digest("hex");
    const expected = Buffer.from(entry.hash).toString("hex");
    if (found !== expected) throw mismatch(entry, found, expected);
  }

  #makeTwin(item: TreeItem): void {
    if (item.twin === null) return;
    fs.linkSync(this.#place(this.#options.trees.plan.item(item.twin)), this.#place(item));
  }

  #makeLink(item: TreeItem): void {
    const entry = this.#entry(item, "link");
    const place = this.#place(item);
    this.#makeWayTo(item);
    fs.symlinkSync(bytesOf(entry.target), place);
    this.#applied(item, entry, isLinkOwnerTaken(place, entry) ? [] : ["owner"]);
    const time = fileTime(entry.mtimeNs);
    fs.lutimesSync(place, time, time);
  }

  #finishDirectory(item: TreeItem): void {
    const { metadata } = this.#entry(item, "dir");
    const fd = fs.openSync(this.#place(item), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    try {
      this.#applied(item, metadata, applyMetadata(`/proc/self/fd/${fd}/.`, metadata));
    } finally {
      fs.closeSync(fd);
    }
  }

  /** A tree's name may have several parts; those above its root are in no record. */
  #makeWayTo({ tree, path: at }: TreeItem): void {
    if (at === "") fs.mkdirSync(path.dirname(`${this.#root}/${tree}`), { recursive: true });
  }

  #place({ tree, path: at }: TreeItem): Buffer {
    return fsPath(`${this.#root}/${tree}`, at);
  }

  #entry<K extends TreeEntry["kind"]>({ tree, path: at }: TreeItem, kind: K): Extract<TreeEntry, { kind: K }> {
    const entry = this.#options.trees.index.entry(tree, at);
    invariant(entry?.kind === kind, `${shownPlace(tree, at)} is a ${kind} in the plan and not in the index`);
    return entry as Extract<TreeEntry, { kind: K }>;
  }
}

type Owner = Pick<PathMetadata, "uid" | "gid">;

/** As applyMetadata has it for files: a container may not know an owner. */
function isLinkOwnerTaken(place: Buffer, { uid, gid }: Owner): boolean {
  if (!mayChangeOwners) return true;
  try {
    fs.lchownSync(place, uid, gid);
    return true;
  } catch (error) {
    if (["EPERM", "EINVAL"].includes(errnoOf(error) ?? "")) return false;
    throw error;
  }
}

function mismatch({ tree, path: at, offset }: FileEntry, found: string, expected: string): TidemarkError {
  const name = shownPlace(tree, at);
  return new TidemarkError(
    "CHECKSUM_MISMATCH",
    `${name} of offset ${offset}: SHA-256 of the file read back is ${found}, the log says ${expected}`,
    {
      hint: "Look at the disk of the target, then restore again; if it stays, the writer of the log is at fault: report it.",
    },
  );
}
