import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";

import { contentName } from "../../../src/event/chunk-list.ts";
import { decodeRecord } from "../../../src/event/codec.ts";
import type { EventBody } from "../../../src/event/kinds.ts";
import type { Offset } from "../../../src/event/positions.ts";
import { bytesOf } from "../../../src/event/tree-path.ts";
import { readLogIdentity } from "../../../src/log/log-reader.ts";
import type { ManifestDatabase, ManifestTree } from "../../../src/repository/base.ts";
import type { BlobWriter } from "../../../src/repository/blob-store.ts";
import { FsStore } from "../../../src/repository/fs-store.ts";
import type { ObjectStore } from "../../../src/repository/object-store.ts";
import { openRepository, type RepositorySealing } from "../../../src/repository/open-repository.ts";
import type { Repository } from "../../../src/repository/repository.ts";
import type { ArchivedRecord } from "../../../src/repository/segment.ts";
import { encodeTableBlock } from "../../../src/repository/table-block.ts";
import { TreeListCutter } from "../../../src/repository/tree-list.ts";
import type { ChangeLog } from "../../../src/log/change-log.ts";
import { openArchive } from "../../../src/restore/archive.ts";
import { LogHistory } from "../../../src/restore/log-history.ts";
import { parseRestoreTarget } from "../../../src/restore/restore-target.ts";
import { restore, type RestoreOptions, type RestoreReport } from "../../../src/restore/restore.ts";
import { systemClock } from "../../../src/runtime/clock.ts";
import { TreeIndex } from "../../../src/tree/tree-index.ts";
import type { ImagedDatabase } from "../../support/database-images.ts";
import { readAll } from "../../support/log-records.ts";
import type { Random } from "../../support/random.ts";
import { type Picture, pictureOf } from "../../support/tree-scene.ts";
import { TreeSource } from "../../support/tree-source.ts";
import { RestoreBench } from "./restore-bench.ts";

const EXTENT_BYTES = 256 * 1024;
const BLOCK_BYTES = 64 * 1024 * 1024;
const { signal } = new AbortController();

/** What everything was like from an offset on. */
export interface Recorded {
  readonly offset: Offset;
  readonly images: ReadonlyMap<string, Uint8Array>;
  readonly picture: Picture | undefined;
}

/** Databases and a tree in a log, a repository that holds what the test brings there, and restores from both. */
export class ArchiveBench implements AsyncDisposable {
  readonly bench: RestoreBench;
  readonly recorded: Recorded[] = [];
  readonly damaged: string[] = [];
  readonly treeRoot: string;
  readonly #sources = new Map<string, ImagedDatabase>();
  readonly #tree: TreeSource;

  private constructor(bench: RestoreBench) {
    this.bench = bench;
    this.treeRoot = path.join(bench.directory, "uploads");
    this.#tree = new TreeSource("uploads", this.treeRoot, { inline: 2000 });
  }

  static async open(): Promise<ArchiveBench> {
    return new ArchiveBench(await RestoreBench.open());
  }

  directory(name = "repository"): string {
    return path.join(this.bench.directory, name);
  }

  async repository(
    mode: "read" | "write",
    store: ObjectStore = new FsStore(this.directory()),
    sealing?: RepositorySealing,
  ): Promise<Repository> {
    const cacheDirectory = path.join(this.bench.directory, `cache-${mode}`);
    fs.mkdirSync(cacheDirectory, { recursive: true });
    return openRepository({
      store,
      ...(mode === "write" ? { set: "app" } : {}),
      mode,
      cacheDirectory,
      createdBy: "test",
      clock: systemClock,
      signal,
      ...(sealing ? { sealing } : {}),
    });
  }

  async commit(name: string, sql: string, pageSize = 4096): Promise<Offset> {
    const source = this.#sources.get(name) ?? this.bench.source(name, pageSize);
    this.#sources.set(name, source);
    return this.#record(await this.bench.commit(source, sql, { name, seconds: 1 }));
  }

  /** Changes to the tree by a shell, as events. */
  async change(script: string): Promise<Offset> {
    fs.mkdirSync(this.treeRoot, { recursive: true });
    execFileSync("bash", ["-ec", script], { cwd: this.treeRoot, stdio: ["ignore", "ignore", "inherit"] });
    const { puts, removals } = this.#tree.changes();
    this.bench.clock.nowMs += 1000;
    const bodies: EventBody[] = [...puts, ...removals];
    if (bodies.length === 0) bodies.push({ kind: "heartbeat", writer: "w", host: "h" });
    return this.#record(await this.bench.log.append(bodies));
  }

  #record(at: Offset): Offset {
    const images = new Map([...this.#sources].map(([name, { image }]) => [name, Uint8Array.from(image)]));
    const picture = fs.existsSync(this.treeRoot) ? pictureOf(this.treeRoot) : undefined;
    this.recorded.push({ offset: at, images, picture });
    return at;
  }

  /** What was there at an offset; undefined between the parts of something, when it cannot be told. */
  at(wanted: number): Recorded | undefined {
    return this.recorded.findLast((one) => one.offset <= wanted);
  }

  /** Brings the log's events into the repository, so many in a segment. */
  async archive(repository: Repository, { after = 0, through = Infinity, perSegment = 20 } = {}): Promise<void> {
    const { logId } = await readLogIdentity(this.bench.log.log, signal);
    const records = (await this.#records()).filter(({ event }) => event.offset > after && event.offset <= through);
    await using writer = repository.blobs.writer(signal);
    await putContents(writer, records);
    await writer.finish(signal);
    for (let at = 0; at < records.length; at += perSegment) {
      await repository.segments.write({ logId, records: records.slice(at, at + perSegment) }, signal);
    }
  }

  /** Some pages are in patches, and garbage in their extents. */
  async base(repository: Repository, at: Offset, random: Random): Promise<void> {
    const records = await this.#records();
    const last = records.find(({ event }) => event.offset === at);
    if (!last) throw new Error(`no event ${at}`);
    const identity = await readLogIdentity(this.bench.log.log, signal);
    const target = this.bench.newTarget();
    const names = this.at(at)?.images.size ?? 0;
    const { databases } =
      names > 0
        ? await this.bench.restore({ to: String(at), target, databases: [...(this.at(at)?.images.keys() ?? [])] })
        : { databases: [] };
    await using writer = repository.blobs.writer(signal);
    await putContents(
      writer,
      records.filter(({ event }) => event.offset <= at),
    );
    const manifestDatabases: ManifestDatabase[] = [];
    for (const { name, pageSize, pages: sizePages, checksum, offset: commit } of databases) {
      const file = fs.readFileSync(path.join(target, name));
      const tables = await putPages(writer, { file, pageSize, random });
      manifestDatabases.push({ name, pageSize, sizePages, checksum: BigInt(`0x${checksum}`), offset: commit, tables });
    }
    fs.rmSync(target, { recursive: true, force: true });
    const trees = await putTrees(
      writer,
      records.filter(({ event }) => event.offset <= at),
    );
    await writer.finish(signal);
    const { epoch, timeMs } = last.event;
    const { logId, checksumSeed } = identity;
    const { recordHash } = await import("../../../src/event/codec.ts");
    await repository.bases.write(
      {
        offset: at,
        timeMs,
        epoch,
        logId,
        hash: recordHash(last.stored.data),
        checksumSeed,
        databases: manifestDatabases,
        trees,
        bytesNew: 0,
        bytesAll: 0,
        createdMs: timeMs,
        createdBy: "test",
      },
      signal,
    );
  }

  /** A restore from the repositories given, and the log's tail, or from the log alone. */
  async restore(
    to: string | number,
    call: Partial<RestoreOptions> & {
      readonly repositories?: readonly Repository[];
      readonly withLog?: boolean;
      /** Instead of the scene's own. */
      readonly changeLog?: ChangeLog;
    } = {},
  ): Promise<RestoreReport & { readonly directory: string }> {
    const { repositories = [], withLog = false, changeLog = this.bench.log.log, ...options } = call;
    const log = new LogHistory(changeLog);
    const archive =
      repositories.length === 0
        ? undefined
        : await openArchive({
            repositories,
            log: withLog ? log : undefined,
            onDamage: (error) => void this.damaged.push(error.message),
            signal,
          });
    const directory = options.directory ?? this.bench.newTarget();
    const report = await restore({
      history: archive?.history ?? log,
      archive,
      target: parseRestoreTarget(String(to)),
      directory,
      check: "quick",
      force: false,
      dryRun: false,
      clock: this.bench.clock,
      signal,
      ...options,
    });
    if ("dryRun" in report) throw new Error("a dry run's report");
    return { ...report, directory };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.bench[Symbol.asyncDispose]();
  }

  async #records(): Promise<ArchivedRecord[]> {
    return (await readAll(this.bench.log.log)).map((stored) => ({ stored, event: decodeRecord(stored.data) }));
  }
}

async function putContents(writer: BlobWriter, records: readonly ArchivedRecord[]): Promise<void> {
  for (const { event } of records) {
    const { body } = event;
    if ((body.kind !== "file.chunk" && body.kind !== "file.put") || !body.data) continue;
    await writer.add("chunk", body.data, bytesOf(contentName(body)));
  }
}

interface Pages {
  readonly file: Buffer;
  readonly pageSize: number;
  readonly random: Random;
}

async function putPages(writer: BlobWriter, { file, pageSize, random }: Pages): Promise<Uint8Array[]> {
  const tables: Uint8Array[] = [];
  for (let block = 0; block < file.length; block += BLOCK_BYTES) {
    const extents: (Uint8Array | undefined)[] = [];
    const pages: number[] = [];
    for (let at = block; at < Math.min(file.length, block + BLOCK_BYTES); at += EXTENT_BYTES) {
      const data = Buffer.from(file.subarray(at, at + EXTENT_BYTES));
      if (data.every((byte) => byte === 0)) {
        extents.push(undefined);
        continue;
      }
      for (let page = 0; page < data.length; page += pageSize) {
        if (random.integer(1, 6) > 1) continue;
        data.fill(0xee, page, page + pageSize);
        pages.push((at + page) / pageSize + 1);
      }
      // What lies behind the end of the database does not count.
      const longer =
        random.integer(0, 1) === 1 && data.length < EXTENT_BYTES ? Buffer.alloc(pageSize, 0xdd) : Buffer.alloc(0);
      extents.push(await writer.add("extent", Buffer.concat([data, longer])));
    }
    const patches = [];
    for (let at = 0; at < pages.length; at += 63) {
      const some = pages.slice(at, at + 63);
      const images = some.map((page) => file.subarray((page - 1) * pageSize, page * pageSize));
      const id = await writer.add("patch", Buffer.concat([Buffer.alloc(pageSize, 0xcc), ...images]));
      patches.push({ id, pages: [0, ...some] });
    }
    tables.push(await writer.add("table", encodeTableBlock({ extents, patches })));
  }
  return tables;
}

async function putTrees(writer: BlobWriter, records: readonly ArchivedRecord[]): Promise<ManifestTree[]> {
  const database = new Database(":memory:");
  try {
    const index = new TreeIndex(database);
    for (const { event } of records) index.apply(event);
    const trees: ManifestTree[] = [];
    for (const name of index.names()) {
      const cutter = new TreeListCutter();
      const lists: Uint8Array[] = [];
      let count = 0;
      for (const entry of index.entries(name)) {
        count += 1;
        for (const list of cutter.add(entry)) lists.push(await writer.add("list", list));
      }
      const rest = cutter.end();
      if (rest) lists.push(await writer.add("list", rest));
      trees.push({ name, lists, count, bytes: index.totals(name).bytes });
    }
    return trees;
  } finally {
    database.close();
  }
}
