import type { Offset } from "../event/positions.ts";
import type { TableBlock } from "../repository/base.ts";
import type { BlobStore } from "../repository/blob-store.ts";
import type { TidemarkError } from "../runtime/errors.ts";
import type { TreeEntry } from "../tree/tree-index.ts";
import type { EventRange } from "./history.ts";
import type { BackwardPiece } from "./segments-back.ts";

/** A database as a base of a repository holds it. */
export interface BaseDatabase {
  readonly name: string;
  readonly pageSize: number;
  readonly sizePages: number;
  readonly checksum: bigint;
  /** So many blocks tell where its pages are. */
  readonly blockCount: number;
  block(index: number, signal: AbortSignal): Promise<TableBlock>;
}

/** All of a set at an offset: a plan may begin with it instead of with the log's copies. */
export interface PlanBase {
  /** Tells it from any other. */
  readonly id: string;
  readonly offset: Offset;
  readonly timeMs: number;
  readonly databases: readonly BaseDatabase[];
  /** Names of its trees. */
  readonly trees: readonly string[];
  /** That of the repository that has it, before others. */
  readonly blobs: BlobReader;
  /** The entries of all trees, a directory before what is in it. */
  entries(signal: AbortSignal): AsyncIterable<TreeEntry>;
}

/** Contents by name. */
export type BlobReader = Pick<BlobStore, "read" | "readMany" | "readUnproved">;

/** From where events come. */
export interface EventsToRead {
  readonly segments: number;
  /** As stored. */
  readonly segmentBytes: number;
  /** Of the log's tail. */
  readonly logEvents: number;
}

/** Events with the last ones first: of each page only the last image need be looked at. */
export interface EventsBack {
  /** Up to here they can be had so, from `after` on. */
  reach(range: Pick<EventRange, "after" | "through">): Offset;
  /** What parts and commits say; `through` is not beyond `reach`. @throws what is damaged, INTERRUPTED */
  pieces(range: EventRange): AsyncGenerator<BackwardPiece, void, void>;
}

/** What a repository adds to the events of a history: states to begin with, and contents. */
export interface Archive {
  /** Events up to here are in it, and the contents that came with them. */
  readonly through: Offset;
  readonly blobs: BlobReader;
  /** Undefined when events must be had in their order, as something of them is in the log alone. */
  readonly back: EventsBack | undefined;
  /** What reading these events takes. */
  reading(range: { readonly after: Offset; readonly through: Offset }): EventsToRead;
  /** The newest base at or before `at` from which the history goes on to there without a gap. */
  baseFor(at: Offset): Promise<PlanBase | undefined>;
  /** Something of this base is damaged, and no repository has another copy. Returns whether there is anything else to begin with. */
  avoid(base: PlanBase, error: TidemarkError): Promise<boolean>;
}
