import { hostname } from "node:os";

import type { Offset } from "../../event/positions.ts";
import type { ChangeLog } from "../../log/change-log.ts";
import type { BaseInfo, BaseManifest } from "../../repository/base.ts";
import type { Repository, RepositoryLock } from "../../repository/repository.ts";
import { decodeTableBlock } from "../../repository/table-block.ts";
import type { Clock } from "../../runtime/clock.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { requireGoingOn } from "../standby-errors.ts";
import type { ReplicaAgent } from "../replica-agent.ts";
import type { ArchivePoint } from "./archive-status.ts";
import type { Archiver } from "./archiver.ts";
import type { BaseMemory } from "./base-memory.ts";
import { BaseWriter } from "./base-writer.ts";
import { holdsAll } from "./database-base.ts";
import type { StandbyImage } from "./standby-image.ts";

export interface BaseMakerOptions {
  readonly repository: Repository;
  readonly replica: ReplicaAgent;
  readonly archiver: Archiver;
  readonly memory: BaseMemory;
  readonly log: ChangeLog;
  /** Root of the standby. */
  readonly standby: string;
  readonly clock: Clock;
}

/** A base that is in the repository, and whose new contents were read back. */
export interface MadeBase {
  readonly location: string;
  readonly offset: Offset;
  readonly at: string;
  readonly bytesNew: number;
  readonly durationMs: number;
}

/** Makes bases of a standby in one repository, one at a time. */
export class BaseMaker {
  readonly #options: BaseMakerOptions;
  #writer: BaseWriter | undefined;
  #newest: ArchivePoint | undefined;
  #changedBytesAtNewest = 0;

  constructor(options: BaseMakerOptions) {
    this.#options = options;
  }

  get underWay(): { readonly done: number; readonly total: number } | undefined {
    return this.#writer?.progress;
  }

  /** The newest verified base in the repository, as far as is known. */
  get newest(): ArchivePoint | undefined {
    return this.#newest;
  }

  /** What the archiver had archived by then. */
  get changedBytesAtNewest(): number {
    return this.#changedBytesAtNewest;
  }

  /** What was in the repository when the agent started. */
  async readNewest(signal: AbortSignal): Promise<void> {
    const { bases } = this.#options.repository;
    const verified = await bases.verified(signal);
    const newest = (await bases.list(signal)).findLast(({ uuid }) => verified.has(uuid));
    if (!newest) return;
    const { offset, timeMs } = await bases.read(newest, signal);
    this.#newest = { offset, atMs: timeMs };
  }

  /** @throws BASE_ABANDONED, INTERRUPTED, INTEGRITY, what the store and the log throw; nothing of it is seen then */
  async make(stop: AbortSignal): Promise<MadeBase> {
    const { repository, replica, archiver, memory, clock } = this.#options;
    const beganMs = clock.monotonic();
    await using lock = await repository.lock("shared", stop);
    const signal = AbortSignal.any([stop, lock.lost]);
    await repository.blobs.refresh(signal);
    // Before the image, which keeps WALs from being emptied: there may be a lot of it.
    await archiver.through(replica.status().offset, signal);
    using image = await replica.image(this.#known(), signal);
    try {
      await archiver.through(image.position.offset, signal);
      requireGoingOn(signal);
      const changedBytes = archiver.changedBytes;
      const { offset, timeMs, bytesNew } = await this.#write(image, lock, signal);
      memory.keep();
      crashPoint("base: remembered");
      this.#newest = { offset, atMs: timeMs };
      this.#changedBytesAtNewest = changedBytes;
      const durationMs = Math.round(clock.monotonic() - beganMs);
      return { location: repository.location, offset, at: new Date(timeMs).toISOString(), bytesNew, durationMs };
    } catch (error) {
      memory.drop();
      throw error;
    } finally {
      this.#writer = undefined;
    }
  }

  /** Contents, then the manifest that names them, then what was stored is read back. */
  async #write(image: StandbyImage, lock: RepositoryLock, signal: AbortSignal): Promise<BaseManifest> {
    const { repository, clock } = this.#options;
    const { bases, blobs } = repository;
    await using contents = blobs.writer(signal);
    this.#writer = new BaseWriter({ ...this.#options, image, contents, signal });
    const manifest = await this.#writer.write();
    // From here on the standby need not stand still.
    image[Symbol.dispose]();
    crashPoint("base: contents stored");
    lock.requireHeld();
    const base = await bases.write(manifest, signal);
    await this.#verify(base, signal);
    // What it refers to that was there before was not read back.
    lock.requireHeld();
    await bases.markVerified({ base: base.uuid, atMs: clock.now(), how: "sample", host: hostname() }, signal);
    crashPoint("base: verified");
    return manifest;
  }

  /** What was there before was read back when it was stored, and is looked at by `verify`. */
  async #verify(base: BaseInfo, signal: AbortSignal): Promise<void> {
    const { repository, memory } = this.#options;
    const { blobs, bases } = repository;
    await bases.read(base, signal);
    const read = blobs.readMany(memory.fresh(), signal);
    while (!(await read.next()).done);
  }

  /** Databases of which the memory holds what the repository has still: they need not be held as long as they rest. */
  #known(): Map<string, Offset> {
    const { memory, repository } = this.#options;
    const { blobs } = repository;
    const known = memory.offsets();
    for (const name of known.keys()) {
      for (const { id, content } of memory.blocks(name)) {
        if (!blobs.has(id) || !holdsAll(blobs, decodeTableBlock(content))) known.delete(name);
      }
    }
    return known;
  }
}
