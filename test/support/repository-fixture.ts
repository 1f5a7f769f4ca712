import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { FsStore } from "../../src/repository/fs-store.ts";
import { openRepository, type OpenRepositoryOptions } from "../../src/repository/open-repository.ts";
import type { Repository } from "../../src/repository/repository.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { FaultyStore } from "./faulty-store.ts";

/** A repository in a directory, whose store does as it is told. */
export class RepositoryFixture implements AsyncDisposable {
  readonly directory: string;
  readonly cache: string;
  readonly #scratch: string;
  readonly signal = new AbortController().signal;
  /** Of the repository that was opened last. */
  store: FaultyStore;
  readonly #scope = new AsyncDisposableStack();

  /** `inMemory`: where there is a file system in memory: for long lives, in which power is not lost. */
  constructor({ inMemory = false } = {}) {
    const root = inMemory && fs.existsSync("/dev/shm") ? "/dev/shm" : os.tmpdir();
    this.#scratch = fs.mkdtempSync(path.join(root, "tidemark-repository-"));
    this.directory = path.join(this.#scratch, "repository");
    this.cache = path.join(this.#scratch, "cache");
    this.store = new FaultyStore(new FsStore(this.directory));
  }

  async open(options: Partial<OpenRepositoryOptions> = {}): Promise<Repository> {
    this.store = new FaultyStore(new FsStore(this.directory));
    const repository = await openRepository({
      store: this.store,
      set: "shop",
      mode: "write",
      cacheDirectory: this.cache,
      createdBy: "tidemark test",
      clock: systemClock,
      signal: this.signal,
      ...options,
    });
    return this.#scope.use(repository);
  }

  /** Names of objects. */
  names(prefix = ""): string[] {
    if (!fs.existsSync(this.directory)) return [];
    return fs
      .readdirSync(this.directory, { recursive: true, encoding: "utf8" })
      .filter((name) => fs.statSync(path.join(this.directory, name)).isFile() && !name.startsWith("."))
      .filter((name) => name.startsWith(prefix))
      .sort();
  }

  /** The one object there is with this prefix. */
  only(prefix: string): string {
    const names = this.names(prefix);
    const [name] = names;
    if (names.length !== 1 || name === undefined) throw new Error(`${names.length} objects at ${prefix}`);
    return name;
  }

  bytesOf(name: string): Buffer {
    return fs.readFileSync(path.join(this.directory, name));
  }

  /** Puts other bytes where an object is. */
  replace(name: string, bytes: Uint8Array): void {
    fs.writeFileSync(path.join(this.directory, name), bytes);
  }

  remove(name: string): void {
    fs.rmSync(path.join(this.directory, name));
  }

  forgetCache(): void {
    fs.rmSync(this.cache, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scope.disposeAsync();
    fs.rmSync(this.#scratch, { recursive: true, force: true });
  }
}
