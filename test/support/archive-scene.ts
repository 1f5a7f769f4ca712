import path from "node:path";

import { pino } from "pino";

import type { TrimConfig } from "../../src/config/config.ts";
import type { ChangeLog } from "../../src/log/change-log.ts";
import { type ArchiveAgent, type RepositoryToWrite, startArchive } from "../../src/replica/archive/archive-agent.ts";
import type { MadeBase } from "../../src/replica/archive/base-maker.ts";
import type { ReplicaAgent } from "../../src/replica/replica-agent.ts";
import type { BaseManifest } from "../../src/repository/base.ts";
import { FsStore } from "../../src/repository/fs-store.ts";
import type { ObjectStore } from "../../src/repository/object-store.ts";
import { openRepository } from "../../src/repository/open-repository.ts";
import type { Repository } from "../../src/repository/repository.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { ReplicaFixture } from "./replica-fixture.ts";
import { writeBaseDatabase } from "./read-base.ts";

const NO_TRIM: TrimConfig = { keepMs: 1, aboveBytes: Infinity, verifiedIn: undefined, forgetMs: 60_000 };
const { signal } = new AbortController();

/** Archives of a fixture's log and bases of its standby, in directory repositories. */
export class ArchiveScene implements AsyncDisposable {
  readonly #fixture: ReplicaFixture;
  #stop = new AbortController();
  #agent: ArchiveAgent | undefined;
  #owned: ReplicaFixture | undefined;
  #files = 0;
  #caches = 0;

  constructor(fixture: ReplicaFixture) {
    this.#fixture = fixture;
  }

  /** With a fixture of its own, which ends with the scene. */
  static async open(log?: ChangeLog): Promise<{ scene: ArchiveScene; fixture: ReplicaFixture }> {
    const fixture = await ReplicaFixture.open(log);
    const scene = new ArchiveScene(fixture);
    scene.#owned = fixture;
    return { scene, fixture };
  }

  get agent(): ArchiveAgent {
    if (!this.#agent) throw new Error("no archive was started");
    return this.#agent;
  }

  directory(name = "repository"): string {
    return path.join(this.#fixture.directory, name);
  }

  repository(name = "repository", open = (): Promise<Repository> => this.open(name)): RepositoryToWrite {
    return { location: this.directory(name), isWanted: () => true, open, requests: () => 0 };
  }

  async open(name = "repository", store: ObjectStore = new FsStore(this.directory(name))): Promise<Repository> {
    return openRepository({
      store,
      set: "app",
      mode: "write",
      cacheDirectory: path.join(this.#fixture.directory, `cache-${(this.#caches += 1)}`),
      createdBy: "test",
      clock: systemClock,
      signal,
    });
  }

  start(
    replica: ReplicaAgent,
    repositories: readonly RepositoryToWrite[] = [this.repository()],
    { log = this.#fixture.log.log, trim = {} }: { log?: ChangeLog; trim?: Partial<TrimConfig> } = {},
  ): ArchiveAgent {
    this.#stop = new AbortController();
    this.#agent = startArchive({
      repositories,
      trim: { ...NO_TRIM, ...trim },
      base: { everyMs: 60 * 60_000, bytes: 2 ** 40 },
      set: "app",
      standby: this.#fixture.standby,
      log,
      replica,
      logger: pino({ enabled: false }),
      clock: systemClock,
      signal: this.#stop.signal,
    });
    return this.#agent;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#agent?.done;
  }

  /** A base in each repository, now. */
  async base(): Promise<MadeBase> {
    const [made] = await this.agent.createBases(AbortSignal.timeout(30_000));
    if (!made) throw new Error("there is no repository");
    return made;
  }

  async manifest(name = "repository"): Promise<BaseManifest> {
    await using repository = await this.open(name);
    const newest = (await repository.bases.list(signal)).at(-1);
    if (!newest) throw new Error("there is no base");
    return repository.bases.read(newest, signal);
  }

  /** Writes a database of the newest base into a file. */
  async databaseOfBase(database: string, name = "repository"): Promise<string> {
    const found = (await this.manifest(name)).databases.find((one) => one.name === database);
    if (!found) throw new Error(`${database} is not in the base`);
    this.#files += 1;
    const file = path.join(this.#fixture.directory, `base-${this.#files}.db`);
    await using repository = await this.open(name);
    await writeBaseDatabase(repository, found, file);
    return file;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#owned?.[Symbol.asyncDispose]();
  }
}
