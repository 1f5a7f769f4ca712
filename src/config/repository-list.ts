import path from "node:path";

import type { RepositoryConfig } from "./config.ts";
import { configError } from "./config-error.ts";
import type { ConfigFile } from "./config-file.ts";
import { parseRepositoryLocation, shownRepository } from "./repository-location.ts";

export interface GivenRepositories {
  /** Of the command line; they replace the file's. */
  readonly flags: readonly string[] | undefined;
  /** Where relative paths of flags count from. */
  readonly directory: string;
  readonly file: ConfigFile | undefined;
}

/** @throws CONFIG */
export function repositoryList({ flags, directory, file }: GivenRepositories): RepositoryConfig[] {
  const repositories =
    flags && flags.length > 0
      ? flags.map((text) => ({ location: parseRepositoryLocation(text, { where: "--repository", directory }) }))
      : fromFile(file);
  const places = repositories.map(({ location }) => shownRepository(location));
  const twice = places.find((place, at) => places.indexOf(place) !== at);
  if (twice === undefined) return repositories;
  throw configError(`the repository ${twice} is given twice`, "Name each repository once.");
}

function fromFile(file: ConfigFile | undefined): RepositoryConfig[] {
  const given = file?.values.repository;
  if (given === undefined || !file) return [];
  const directory = path.dirname(file.path);
  return (Array.isArray(given) ? given : [given]).map((entry, index) => {
    const where = file.where(Array.isArray(given) ? ["repository", index] : ["repository"]);
    const text = typeof entry === "string" ? entry : entry.path;
    return { location: parseRepositoryLocation(text, { where, directory }) };
  });
}
