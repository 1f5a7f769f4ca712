import path from "node:path";

import { configError } from "./config-error.ts";
import { withoutSecrets } from "./log-location.ts";

/** Where a repository is. */
export interface RepositoryLocation {
  readonly kind: "directory";
  /** Absolute. */
  readonly path: string;
}

/** Messages never show a password. @throws CONFIG */
export function parseRepositoryLocation(
  text: string,
  { where, directory }: { where: string; directory: string },
): RepositoryLocation {
  if (text !== "" && !/^[a-z][a-z0-9+.-]*:/i.test(text))
    return { kind: "directory", path: path.resolve(directory, text) };
  throw configError(
    `${where}: ${JSON.stringify(withoutSecrets(text))} is no place for a repository`,
    "Write the path of a directory.",
  );
}

/** For messages. */
export function shownRepository(location: RepositoryLocation): string {
  return location.path;
}
