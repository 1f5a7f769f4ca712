import type { Offset } from "../../event/positions.ts";
import type { TreeSnapshot } from "../files/tree-snapshot.ts";
import type { StandingPages } from "../sqlite/standing-pages.ts";
import type { StandbyDatabase } from "../standby-database.ts";
import type { StandbySet } from "../standby-set.ts";
import type { StandbyPosition } from "../standby-state.ts";

/** A database as it was at the offset of an image. */
export interface ImagedDatabase {
  readonly name: string;
  /** Last commit event of it. */
  readonly offset: Offset;
  readonly pageSize: number;
  readonly sizePages: number;
  readonly checksum: bigint;
  /** Undefined when whoever asked for the image knows the database as it was at `offset` already. */
  readonly standing: { readonly pages: StandingPages; readonly hashes: BigUint64Array } | undefined;
  /** Says that a page was not what its hash says. */
  readonly distrust: () => void;
}

/** All of a standby at one recorded offset, while apply goes on. Ends by itself when a WAL must be emptied. */
export class StandbyImage implements Disposable {
  readonly position: StandbyPosition;
  /** Seed of the page hashes. */
  readonly seed: bigint;
  readonly databases: readonly ImagedDatabase[];
  readonly trees: TreeSnapshot | undefined;
  readonly #scope = new DisposableStack();

  /** At a quiet point: everything that was taken is shown and recorded. `known`: see ImagedDatabase.standing. */
  constructor(set: StandbySet, position: StandbyPosition, known: ReadonlyMap<string, Offset>) {
    this.position = position;
    this.seed = set.seed;
    try {
      this.databases = set.databases.flatMap((database) => this.#imaged(database, known) ?? []);
      const trees = set.files.snapshot();
      this.trees = trees && this.#scope.use(trees);
    } catch (error) {
      this.#scope.dispose();
      throw error;
    }
  }

  #imaged(database: StandbyDatabase, known: ReadonlyMap<string, Offset>): ImagedDatabase | undefined {
    const { name, offset, index, writer } = database;
    if (!index || !writer) return undefined;
    const { pageSize, sizePages, checksum } = index;
    const distrust = (): void => database.distrust();
    const imaged = { name, offset, pageSize, sizePages, checksum, distrust };
    if (known.get(name) === offset) return { ...imaged, standing: undefined };
    // Succeeds or not: without frames in the WAL there is less to look for.
    writer.checkpoint();
    const pages = this.#scope.use(writer.stand());
    return { ...imaged, standing: { pages, hashes: index.hashes() } };
  }

  [Symbol.dispose](): void {
    this.#scope.dispose();
  }
}
