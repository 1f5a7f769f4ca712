import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { repositorySealing } from "../compose.ts";
import type { Config, RepositoryConfig } from "../config/config.ts";
import { type Settings, standbyState } from "../config/load-config.ts";
import { type RepositoryLocation, shownRepository } from "../config/repository-location.ts";
import type { ChangeLog } from "../log/change-log.ts";
import type { RepositoryToOpen } from "../replica/archive/archive-agent.ts";
import { FsStore } from "../repository/fs-store.ts";
import type { ObjectStore } from "../repository/object-store.ts";
import { openRepository } from "../repository/open-repository.ts";
import type { Repository } from "../repository/repository.ts";
import type { Clock } from "../runtime/clock.ts";

const createdBy = `tidemark on ${os.hostname()}`;

export interface WriteOptions {
  readonly clock: Clock;
  readonly log: ChangeLog;
  /** Where the keys of the set are kept, when it is captured in this process too. */
  readonly state: string | undefined;
}

/** The repositories of a set, for the replica that writes them. What the log encrypts, they encrypt. */
export function repositoriesToWrite(config: Config, { clock, log, state }: WriteOptions): RepositoryToOpen[] {
  const { repositories, set, standby = "", encryption } = config;
  const cacheDirectory = path.join(standbyState(standby), "repositories");
  return repositories.map(({ location }: RepositoryConfig) => ({
    location: shownRepository(location),
    open: async (signal) => {
      const sealing = await repositorySealing({ encryption, state }, { clock, log });
      const options = { set, mode: "write", cacheDirectory, createdBy, clock, signal, sealing } as const;
      return openRepository({ store: openStore(location), ...options });
    },
  }));
}

/** For a command that reads one repository after the other, and leaves nothing behind. */
export async function readRepositories(
  { repositories, set, encryption, state }: Pick<Settings, "repositories" | "set" | "encryption" | "state">,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
  look: (repository: Repository) => Promise<void>,
): Promise<void> {
  const cacheDirectory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-repository-"));
  try {
    for (const { location } of repositories) {
      const known = set === undefined ? {} : { set };
      const sealing = await repositorySealing({ encryption, state }, { clock });
      const options = { ...known, mode: "read", cacheDirectory, createdBy, clock, signal, sealing } as const;
      await using repository = await openRepository({ store: openStore(location), ...options });
      await look(repository);
    }
  } finally {
    fs.rmSync(cacheDirectory, { recursive: true, force: true });
  }
}

function openStore(location: RepositoryLocation): ObjectStore {
  return new FsStore(location.path);
}
