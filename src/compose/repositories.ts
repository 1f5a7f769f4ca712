import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import type { Config, RepositoryConfig } from "../config/config.ts";
import { configError } from "../config/config-error.ts";
import { type Settings, standbyState } from "../config/load-config.ts";
import { type RepositoryLocation, shownRepository } from "../config/repository-location.ts";
import type { RepositoryToOpen } from "../replica/archive/archive-agent.ts";
import { FsStore } from "../repository/fs-store.ts";
import type { ObjectStore } from "../repository/object-store.ts";
import { openRepository } from "../repository/open-repository.ts";
import type { Repository } from "../repository/repository.ts";
import type { Clock } from "../runtime/clock.ts";

const createdBy = `tidemark on ${os.hostname()}`;

/** The repositories of a set, for the replica that writes them. */
export function repositoriesToWrite(config: Config, clock: Clock): RepositoryToOpen[] {
  const { repositories, set, standby = "", encryption } = config;
  if (repositories.length > 0 && encryption.recipients.length > 0) throw notEncryptedYet();
  const cacheDirectory = path.join(standbyState(standby), "repositories");
  return repositories.map(({ location }: RepositoryConfig) => ({
    location: shownRepository(location),
    open: async (signal) =>
      openRepository({ store: openStore(location), set, mode: "write", cacheDirectory, createdBy, clock, signal }),
  }));
}

/** For a command that reads one repository after the other, and leaves nothing behind. */
export async function readRepositories(
  { repositories, set }: Pick<Settings, "repositories" | "set">,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
  look: (repository: Repository) => Promise<void>,
): Promise<void> {
  const cacheDirectory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-repository-"));
  try {
    for (const { location } of repositories) {
      const known = set === undefined ? {} : { set };
      const options = { ...known, mode: "read", cacheDirectory, createdBy, clock, signal } as const;
      await using repository = await openRepository({ store: openStore(location), ...options });
      await look(repository);
    }
  } finally {
    fs.rmSync(cacheDirectory, { recursive: true, force: true });
  }
}

function notEncryptedYet(): Error {
  return configError(
    "encryption: and repository: cannot be had together in this version",
    "Leave out one of the two; a repository would hold in the clear what the log hides.",
  );
}

function openStore(location: RepositoryLocation): ObjectStore {
  return new FsStore(location.path);
}
