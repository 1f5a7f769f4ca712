import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { openRepositoryToRead, repositorySealing } from "../compose.ts";
import type { Config, RepositoryConfig } from "../config/config.ts";
import { isBegun } from "../config/own-repository.ts";
import { type Settings, standbyState } from "../config/load-config.ts";
import type { ChangeLog } from "../log/change-log.ts";
import type { RepositoryToWrite } from "../replica/archive/archive-agent.ts";
import type { RepositoryToOpen } from "../replica/look-back.ts";
import { openRepository } from "../repository/open-repository.ts";
import type { StoreCounts } from "../repository/counting-store.ts";
import { openStore } from "../repository/open-store.ts";
import type { Repository } from "../repository/repository.ts";
import { storeLocation } from "../repository/store-location.ts";
import type { Clock } from "../runtime/clock.ts";
import { KnownRepositories } from "./known-repositories.ts";

const createdBy = `tidemark on ${os.hostname()}`;

export interface WriteOptions {
  readonly clock: Clock;
  readonly log: ChangeLog;
  /** Where the keys of the set are kept, when it is captured in this process too. */
  readonly state: string | undefined;
}

/** The repositories of a set, for the replica that writes them. What the log encrypts, they encrypt. */
export function repositoriesToWrite(config: Config, { clock, log, state }: WriteOptions): RepositoryToWrite[] {
  const { repositories, set, standby = "", encryption, expire } = config;
  const cacheDirectory = path.join(standbyState(standby), "repositories");
  const known = new KnownRepositories(standbyState(standby));
  return repositories.map((repository) => {
    const location = storeLocation(repository.place);
    // One for each time that it was opened.
    const counts: Readonly<StoreCounts>[] = [];
    return {
      location,
      base: repository.base,
      isWanted: () => repository.own !== true || isBegun(repository.place),
      expiry: expire === "auto" ? expiryOf(repository) : undefined,
      open: async (signal) => {
        const sealing = await repositorySealing({ encryption, state }, { clock, log });
        const options = { set, mode: "write", cacheDirectory, createdBy, clock, signal, sealing } as const;
        const opened = await openStore(repository, clock);
        counts.push(opened.counts);
        const id = known.idAt(location);
        const expected = id === undefined ? undefined : { id, notedIn: known.file };
        const found = await openRepository({ store: opened.store, ...options, expected });
        known.remember(location, found.config.id);
        return found;
      },
      requests: () => counts.reduce((sum, { requests }) => sum + requests, 0),
    };
  });
}

/** The repositories of a set, for a standby that looks for what the log holds no more. */
export function repositoriesToRead(config: Config, { clock, state }: Omit<WriteOptions, "log">): RepositoryToOpen[] {
  const { repositories, set, standby = "", encryption } = config;
  const cacheDirectory = path.join(standbyState(standby), "repositories");
  return repositories.map((repository) => ({
    location: storeLocation(repository.place),
    open: (signal) => openRepositoryToRead({ repository, set, cacheDirectory, encryption, state, clock, signal }),
  }));
}

/** What nobody gave rules for stays. */
function expiryOf({ keep, objectLock }: RepositoryConfig): RepositoryToWrite["expiry"] {
  return keep && { rules: keep, rewrites: objectLock === undefined };
}

/** For a command that reads one repository after the other, and leaves nothing behind. */
export async function readRepositories(
  { repositories, set, encryption }: Pick<Settings, "repositories" | "set" | "encryption">,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
  look: (repository: Repository, config: RepositoryConfig) => Promise<void>,
): Promise<void> {
  const cacheDirectory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-repository-"));
  try {
    for (const config of repositories) {
      const options = { repository: config, set, cacheDirectory, encryption, clock, signal };
      await using repository = await openRepositoryToRead(options);
      await look(repository, config);
    }
  } finally {
    fs.rmSync(cacheDirectory, { recursive: true, force: true });
  }
}
