import fs from "node:fs";
import path from "node:path";

import { type Chunk, contentName } from "../../event/chunk-list.ts";
import type { LogEvent } from "../../event/kinds.ts";
import { BEFORE_FIRST, type Offset } from "../../event/positions.ts";
import { TREE_ROOT, type TreePath } from "../../event/tree-path.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { TidemarkError } from "../../runtime/errors.ts";
import { invariant } from "../../runtime/invariant.ts";
import { mayChangeOwners } from "../../tree/metadata.ts";
import type { FileEntry, TreeEntry, TreeIndex } from "../../tree/tree-index.ts";
import { foreign } from "../standby-errors.ts";
import type { StandbyState } from "../standby-state.ts";
import { type FilesState, removeFilesState } from "./files-state.ts";
import { StandbyParts, type StandbyPartsOptions } from "./standby-parts.ts";
import { requireTreeName, standbyPath } from "./standby-path.ts";
import { removeStrays } from "./stray-files.ts";
import type { Place } from "./touched-places.ts";
import { type StandbyTree, TreeFigures } from "./tree-figures.ts";
import type { TreeSnapshot } from "./tree-snapshot.ts";

/** Files that are made ready at the same time: while one waits for the disk another is written. */
const AT_ONCE = 8;
/** So much is at most undone by a crash while a new standby is built. */
const FLUSH_EVENTS = 20_000;
const FLUSH_BYTES = 1024 * 1024 * 1024;

export interface StandbyFilesOptions extends StandbyPartsOptions {
  readonly state: StandbyState;
  /** A reseed: what stands at a tree's place is replaced, whosever it is. */
  readonly replaceTrees: boolean;
}

/**
 * The file trees of a standby. `take` proves an event and notes it, `stage` gets contents ready, `showPuts` and
 * `showRemovals` make the net state visible, `sync` makes it durable and `commit` ends it: its events are needed no more.
 */
export class StandbyFiles {
  readonly #options: StandbyFilesOptions;
  #parts: StandbyParts | undefined;
  readonly #figures: TreeFigures;
  readonly #claimed = new Set<string>();
  /** Files taken and not yet staged. */
  #fresh: Place[] = [];
  /** An event was not taken as a whole. */
  #torn = false;
  #taken: Offset = BEFORE_FIRST;
  #pending = false;
  #dirty = false;
  #unflushedEvents = 0;
  #unflushedBytes = 0;
  #swept: boolean;

  /** @throws INTEGRITY when the index is not there any more, or is older than the recorded position */
  constructor(options: StandbyFilesOptions) {
    this.#options = options;
    this.#swept = !options.replaceTrees;
    this.#figures = new TreeFigures(options.paths.root);
    const known = options.state.filesOffset;
    if (fs.existsSync(options.paths.files)) this.#open();
    if (known !== undefined && this.#taken < known) {
      this.close();
      throw indexLost(options.paths.files, this.#taken, known);
    }
  }

  get trees(): readonly StandbyTree[] {
    return this.#figures.all;
  }

  /** Whether something was taken that is not shown. */
  get pending(): boolean {
    return this.#pending;
  }

  /** Whether what was taken cannot be shown: it must be read again. */
  get torn(): boolean {
    return this.#torn || this.#parts?.state.lost === true;
  }

  /** Of a standby that never was complete: so much was taken that it should be shown and committed meanwhile. */
  get heavy(): boolean {
    return this.#unflushedEvents >= FLUSH_EVENTS || this.#unflushedBytes >= FLUSH_BYTES;
  }

  /** Last event taken; undefined when there never was one. */
  get taken(): Offset | undefined {
    return this.#parts && this.#taken;
  }

  /** @throws LOG_CORRUPT, RECORD_INVALID, PATH_UNSAFE, STANDBY_FOREIGN; nothing of the event is shown then, now or later */
  take(event: LogEvent): void {
    const { body, offset } = event;
    if (offset <= this.#taken || !(isOfTrees(body) || (body.kind === "epoch" && this.#parts))) return;
    const { state, chunks } = (this.#parts ??= this.#open());
    state.begin();
    // Those of a repository come without their content.
    if ((body.kind === "file.chunk" || body.kind === "file.put") && body.data?.length)
      chunks.add(contentName(body), body.data, offset);
    if ("tree" in body) this.#claim(body.tree);
    this.#apply(state, event);
    if ("path" in body) this.#figures.took(body.tree, offset);
    if (body.kind === "file.put") this.#fresh.push({ tree: body.tree, path: body.path });
    this.#unflushedEvents += 1;
    this.#unflushedBytes += event.bytes;
    this.#taken = offset;
    this.#pending ||= "path" in body;
    this.#dirty = true;
  }

  /** Before the first `seed`: what an earlier attempt left in the index is void. */
  beginSeed(): void {
    this.close();
    removeFilesState(this.#options.paths.files);
    this.#fresh = [];
    this.#taken = BEFORE_FIRST;
    this.#swept = false;
  }

  /** An entry of a base with which the standby begins; a directory before what is in it. @throws as `take` */
  seed(entry: TreeEntry): void {
    const { state } = (this.#parts ??= this.#open());
    const { tree, path: at, kind, offset } = entry;
    state.begin();
    this.#claim(tree);
    state.index.insert(entry);
    this.#figures.took(tree, offset);
    if (kind === "file") this.#fresh.push({ tree, path: at });
    this.#unflushedEvents += 1;
    this.#unflushedBytes += kind === "file" ? entry.size : 0;
    this.#pending = true;
    this.#dirty = true;
  }

  /** All entries of the base at this offset were given. */
  seeded(offset: Offset): void {
    if (this.#parts) this.#taken = offset;
  }

  /** Gets the contents of what was taken ready. May be called again after it threw. */
  async stage({ durable }: { readonly durable: boolean }): Promise<void> {
    const parts = this.#parts;
    if (!parts || this.#fresh.length === 0) return;
    const { index, touched } = parts.state;
    const files = this.#freshFiles(index);
    let next = 0;
    const work = async (): Promise<void> => {
      for (let entry = files[next++]; entry; entry = files[next++]) {
        const noted = touched.get(entry);
        if (noted) await parts.stager.prepare(noted, entry, { durable });
      }
    };
    const ended = await Promise.allSettled(Array.from({ length: AT_ONCE }, work));
    const failed = ended.find((result) => result.status === "rejected");
    if (failed) throw failed.reason;
    this.#fresh = [];
  }

  async showPuts(): Promise<void> {
    if (this.#pending) await this.#parts?.shower.puts();
  }

  /** Ends what `showPuts` began. `complete`: all that the log held at the start was taken. */
  async showRemovals({ complete }: { readonly complete: boolean }): Promise<void> {
    const parts = this.#parts;
    if (!parts || !this.#pending) return;
    const growth = parts.state.touched.growth();
    await parts.shower.removals();
    if (complete && !this.#swept) {
      await removeStrays(parts);
      this.#swept = true;
    }
    this.#figures.shown(growth);
    this.#pending = false;
  }

  /** Whether the next event may need one that came before, other than what the index tells. */
  get unfinished(): boolean {
    return this.#parts?.state.index.unfinished === true;
  }

  /** The trees as they are now, with nothing to commit; undefined when there is none. */
  snapshot(): TreeSnapshot | undefined {
    return this.#parts?.state.snapshot();
  }

  /** Whether directories were gone with what they should have held, since the last call: somebody else removed them. */
  takeMissed(): boolean {
    return this.#parts?.shower.takeMissed() ?? false;
  }

  /** Content by its name; undefined when there is no tree. @throws what ChunkSource.get throws */
  async content(chunk: Chunk): Promise<Uint8Array | undefined> {
    return this.#parts?.chunks.get(chunk, undefined);
  }

  /** For the scrub; undefined when there is no tree. */
  get checkable(): Pick<StandbyParts, "state" | "reader" | "shower" | "refusals"> | undefined {
    return this.#parts;
  }

  /** Takes over what stands at the places of the trees in the index, whosever it is. */
  adopt(): void {
    const { state } = (this.#parts ??= this.#open());
    for (const tree of state.index.names()) this.#claim(tree);
  }

  /** Removes what the log knows nothing of, the innermost last; of directories those in which nothing is left. */
  removeUnknown(tree: string, places: readonly TreePath[]): void {
    const parts = this.#parts;
    for (const place of places.toReversed()) {
      const at = standbyPath(tree, place);
      const isInUse = parts?.reader.stat(at)?.isDirectory() === true && parts.reader.list(at).length > 0;
      if (!isInUse) parts?.writer.remove(at);
    }
  }

  /** Makes places anew as the index says, while nothing is pending. What the log does not hold any more cannot be. */
  async repair(places: readonly Place[]): Promise<void> {
    const parts = this.#parts;
    invariant(parts && !this.#pending, "what is pending may be what differs");
    parts.state.begin();
    for (const place of places) parts.state.touched.touch(place);
    this.#dirty = true;
    await parts.shower.puts();
    await parts.shower.removals();
    await this.sync();
    this.commit();
  }

  /** Makes durable what is shown. */
  async sync(): Promise<void> {
    const changed = this.#parts?.changed;
    if (!changed?.any) return;
    await changed.sync();
    crashPoint("files: synced");
  }

  /** After `sync`, with nothing pending. */
  commit(): void {
    if (!this.#dirty) return;
    this.#parts?.state.commit(this.#taken);
    crashPoint("files: committed");
    this.#unflushedEvents = 0;
    this.#unflushedBytes = 0;
    this.#dirty = false;
  }

  close(): void {
    this.#parts?.[Symbol.dispose]();
    this.#parts = undefined;
  }

  /** Each place once, and of the names of one file one: the others follow when it is placed. */
  #freshFiles(index: TreeIndex): FileEntry[] {
    const files = new Map<string, FileEntry>();
    for (const { tree, path: at } of this.#fresh) {
      const entry = index.entry(tree, at);
      if (entry?.kind !== "file") continue;
      const { group } = entry;
      files.set(group === undefined ? `${tree}/${at}` : `${tree}//${group}`, entry);
    }
    return [...files.values()];
  }

  /** The index refuses what does not fit before it changes anything. */
  #apply({ index }: FilesState, event: LogEvent): void {
    try {
      index.apply(event);
    } catch (error) {
      this.#torn = !(error instanceof TidemarkError);
      throw error;
    }
  }

  #open(): StandbyParts {
    const parts = new StandbyParts(this.#options);
    if (!mayChangeOwners) this.#options.logger.info("not running as root: files on the standby belong to this user");
    this.#parts = parts;
    this.#taken = parts.state.offset;
    this.#figures.count(parts.state.index, this.#taken);
    return parts;
  }

  /** The place of a tree is ours, or becomes so while nothing of anybody's is there. */
  #claim(name: string): void {
    if (this.#claimed.has(name)) return;
    requireTreeName(name);
    const { state, paths, replaceTrees } = this.#options;
    // No database's name ends like this.
    const claim = `${name}/`;
    const place = path.join(paths.root, name);
    if (!state.claimed(claim)) {
      if (!replaceTrees && !isFree(place)) throw foreign(place);
      state.claim(claim);
      crashPoint("files: claimed");
    }
    this.#parts?.writer.makeWayTo(standbyPath(name, TREE_ROOT));
    this.#claimed.add(name);
  }
}

function isOfTrees({ kind }: LogEvent["body"]): boolean {
  return kind.startsWith("file.") || kind.startsWith("dir.") || kind.startsWith("link.");
}

/** An empty directory may be a volume that was mounted for the tree. */
function isFree(place: string): boolean {
  const stat = fs.lstatSync(place, { throwIfNoEntry: false });
  return !stat || (stat.isDirectory() && fs.readdirSync(place).every((name) => name === "lost+found"));
}

function indexLost(file: string, found: Offset, known: Offset): TidemarkError {
  return new TidemarkError(
    "INTEGRITY",
    `the standby's index of its trees, ${file}, is of offset ${found}; ${known} was recorded`,
    { hint: "Somebody removed or replaced it. Build the standby anew with `tidemark replica --reseed`." },
  );
}
