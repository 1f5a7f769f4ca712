import path from "node:path";

import type { KeepConfig, RepositoryConfig, StoreLimits, StorePlace } from "./config.ts";
import { baseConfig } from "./agent-config.ts";
import { configError } from "./config-error.ts";
import type { ConfigFile } from "./config-file.ts";
import type { FileConfig } from "./config-schema.ts";
import { ownRepository, type OwnRepositoryOptions } from "./own-repository.ts";
import { parseRepositoryLocation, type PlaceOptions } from "./repository-location.ts";

type Entry = Extract<NonNullable<FileConfig["repository"]>, readonly unknown[]>[number];

const NO_LIMITS: StoreLimits = { uploadBytesPerSecond: undefined, downloadBytesPerSecond: undefined, requests: 8 };

/** A location alone, as `--repository` gives it. @throws CONFIG */
export function repositoryFromText(text: string, options: { where: string; directory: string }): RepositoryConfig {
  const place = parseRepositoryLocation(text, { ...options, options: {} });
  return { place, limits: NO_LIMITS, objectLock: undefined, keep: undefined };
}

export interface RepositoriesOptions {
  /** By `--repository`, which goes before the file. */
  readonly given: readonly string[] | undefined;
  readonly directory: string;
  /** For a set that names none. */
  readonly own: Omit<OwnRepositoryOptions, "limits" | "keep"> | undefined;
}

/** @throws CONFIG */
export function repositoriesConfig(
  file: ConfigFile | undefined,
  options: RepositoriesOptions,
): readonly RepositoryConfig[] {
  const { given = [], directory, own } = options;
  const named = given.length > 0 ? given : file?.values.repository;
  if (isNone(named)) return [];
  const source = { where: "--repository", directory };
  const configured = ofFile(file);
  const all =
    given.length > 0 ? given.map((text) => asConfigured(repositoryFromText(text, source), configured)) : configured;
  refuseTwice(all);
  const keep = file?.values.keep && keepConfig(file.values.keep);
  if (named === undefined && own) return ownRepository({ ...own, limits: NO_LIMITS, keep });
  return all.map((one) => ({ ...one, keep: one.keep ?? keep }));
}

/** `repository: none`: not even the set's own. */
function isNone(named: unknown): boolean {
  return named === "none" || (Array.isArray(named) && named.length === 1 && named[0] === "none");
}

/** One that is named on the command line and described in the file has the rules of the file. */
function asConfigured(given: RepositoryConfig, configured: readonly RepositoryConfig[]): RepositoryConfig {
  const { keep, base, objectLock, limits } = configured.find(({ place }) => isSamePlace(place, given.place)) ?? given;
  return { ...given, keep, base, objectLock, limits };
}

function isSamePlace(one: StorePlace, other: StorePlace): boolean {
  const key = (place: StorePlace): unknown[] =>
    place.kind === "s3" ? [place.bucket, place.prefix] : [place.directory, place.kind === "sftp" ? place.host : ""];
  return one.kind === other.kind && JSON.stringify(key(one)) === JSON.stringify(key(other));
}

function ofFile(file: ConfigFile | undefined): readonly RepositoryConfig[] {
  const given = file?.values.repository;
  if (given === undefined || !file) return [];
  if (!Array.isArray(given)) return [fromFile(file, given, ["repository"])];
  return given.map((entry, index) => fromFile(file, entry, ["repository", index]));
}

function fromFile(file: ConfigFile, entry: Entry, keys: readonly PropertyKey[]): RepositoryConfig {
  const source = { where: file.where(keys), directory: path.dirname(file.path) };
  if (typeof entry === "string") return repositoryFromText(entry, source);
  const { path: location, keep, base, objectLock, limits, pathStyle, ...options } = entry;
  const texts: PlaceOptions = { ...options, pathStyle: pathStyle === undefined ? undefined : String(pathStyle) };
  const place = parseRepositoryLocation(location, { ...source, options: texts });
  if (objectLock && place.kind !== "s3")
    throw configError(`${source.where}: objectLock is for S3 buckets`, "Remove objectLock, or use an S3 bucket.");
  return {
    place,
    limits: {
      uploadBytesPerSecond: limits?.upload,
      downloadBytesPerSecond: limits?.download,
      requests: limits?.requests ?? NO_LIMITS.requests,
    },
    objectLock,
    keep: keep && keepConfig(keep),
    base: base && baseConfig(file, base),
  };
}

function keepConfig({ within, ...rules }: NonNullable<Exclude<Entry, string>["keep"]>): KeepConfig {
  const given = Object.entries({ ...rules, withinMs: within }).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given);
}

function refuseTwice(all: readonly RepositoryConfig[]): void {
  const places = all.map(({ place }) => JSON.stringify(place));
  const twice = all.find((_, index) => places.indexOf(places[index] ?? "") < index);
  if (!twice) return;
  const { place } = twice;
  const shown = place.kind === "directory" ? place.directory : place.kind === "s3" ? place.bucket : place.host;
  throw configError(`the repository on ${shown} is given twice`, "Name each repository once.");
}
