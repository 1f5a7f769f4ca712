import path from "node:path";

import type { S3Place, SftpPlace, StorePlace } from "./config.ts";
import { configError } from "./config-error.ts";
import { withoutSecrets } from "./log-location.ts";
import { nearestName } from "./nearest-name.ts";

const REPOSITORY_FORMS =
  "Write a directory, s3://BUCKET/PREFIX?endpoint=URL&region=NAME, or sftp://USER@HOST:PORT/DIRECTORY.";

/** What can be said of a place beside its location, all as text: in a URL's query, or as keys of the file. */
export type PlaceOptions = Readonly<Record<string, string | undefined>>;

const S3_OPTIONS = ["endpoint", "region", "profile", "pathStyle", "sse", "kmsKey", "storageClass", "ca"] as const;
const SFTP_OPTIONS = ["keyFile", "knownHosts", "hostKey"] as const;
const SSH_PORT = 22;

export interface LocationSource {
  /** For messages: `--repository`, `tidemark.yml:7: repository`. */
  readonly where: string;
  /** Relative paths count from here. */
  readonly directory: string;
  /** Keys of the file; they go behind what the URL itself says. */
  readonly options: PlaceOptions;
}

/** Messages never show what stands before an `@`. @throws CONFIG */
export function parseRepositoryLocation(text: string, source: LocationSource): StorePlace {
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1]?.toLowerCase();
  if (scheme === "s3") return s3Place(parseUrl(text, source), source);
  if (scheme === "sftp") return sftpPlace(parseUrl(text, source), source);
  if (scheme !== undefined) throw unusable(text, source, "is no place for a repository");
  if (text === "") throw configError(`${source.where}: is empty`, REPOSITORY_FORMS);
  allow(source, [], source.options);
  return { kind: "directory", directory: path.resolve(source.directory, text) };
}

function s3Place(url: URL, source: LocationSource): S3Place {
  if (url.username !== "" || url.password !== "") {
    throw configError(
      `${source.where}: credentials do not belong into a location`,
      "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws/credentials and profile: NAME.",
    );
  }
  const bucket = url.hostname;
  if (!/^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$/.test(bucket) || url.port !== "")
    throw unusable(url.href, source, "names no bucket");
  const options = optionsOf(url, source, S3_OPTIONS);
  return {
    kind: "s3",
    bucket,
    prefix: prefixOf(url, source),
    endpoint: endpointOf(options.endpoint, source),
    region: options.region,
    profile: options.profile,
    pathStyle: flagOf(options.pathStyle, "pathStyle", source) ?? options.endpoint !== undefined,
    ca: fileOf(options.ca, source),
    sse: sseOf(options, source),
    storageClass: options.storageClass,
  };
}

function prefixOf(url: URL, source: LocationSource): string {
  const prefix = decoded(url.pathname, source)
    .split("/")
    .filter((part) => part !== "");
  if (prefix.some((part) => part === "." || part === "..")) throw unusable(url.href, source, "has dots as a directory");
  return prefix.map((part) => `${part}/`).join("");
}

function sseOf({ sse, kmsKey }: PlaceOptions, source: LocationSource): S3Place["sse"] {
  if (sse === undefined && kmsKey === undefined) return undefined;
  if (sse === "AES256" && kmsKey === undefined) return { kind: "AES256" };
  if (sse === "aws:kms" || sse === undefined) return { kind: "aws:kms", keyId: kmsKey };
  throw configError(
    `${source.where}: sse ${JSON.stringify(sse)}${kmsKey === undefined ? "" : " with a kmsKey"} is not possible`,
    "Write sse: AES256, or sse: aws:kms with or without a kmsKey.",
  );
}

function endpointOf(given: string | undefined, source: LocationSource): string | undefined {
  if (given === undefined) return undefined;
  const url = URL.canParse(given) ? new URL(given) : undefined;
  if (url && /^https?:$/.test(url.protocol) && url.username === "" && url.password === "") return url.href;
  throw configError(
    `${source.where}: the endpoint ${JSON.stringify(withoutSecrets(given))} is no http:// or https:// URL without credentials`,
    "Write endpoint: https://HOST:PORT.",
  );
}

function sftpPlace(url: URL, source: LocationSource): SftpPlace {
  if (url.password !== "") {
    throw configError(
      `${source.where}: a password does not belong into a location`,
      "Use a key (keyFile, or ssh-agent), or set TIDEMARK_SFTP_PASSWORD.",
    );
  }
  const directory = decoded(url.pathname, source);
  if (url.hostname === "" || directory.replaceAll("/", "") === "")
    throw unusable(url.href, source, "names no host and directory");
  const options = optionsOf(url, source, SFTP_OPTIONS);
  return {
    kind: "sftp",
    host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
    port: url.port === "" ? SSH_PORT : Number(url.port),
    user: url.username === "" ? undefined : decoded(url.username, source),
    // sftp://host/path is absolute, sftp://host/~/path counts from the user's home.
    directory: directory.startsWith("/~/") ? directory.slice(3) : directory.replace(/\/+$/, ""),
    keyFile: fileOf(options.keyFile, source),
    knownHosts: fileOf(options.knownHosts, source),
    hostKey: options.hostKey,
  };
}

function parseUrl(text: string, source: LocationSource): URL {
  if (URL.canParse(text)) return new URL(text);
  throw unusable(text, source, "is no URL");
}

/** Of the URL's query and the file's keys together. */
function optionsOf(url: URL, source: LocationSource, known: readonly string[]): PlaceOptions {
  const query = Object.fromEntries(url.searchParams);
  allow(source, known, query);
  allow(source, known, source.options);
  return { ...source.options, ...query };
}

function allow({ where }: LocationSource, known: readonly string[], given: PlaceOptions): void {
  for (const [key, value] of Object.entries(given)) {
    if (value === undefined || known.includes(key)) continue;
    const near = nearestName(key, known);
    throw configError(
      `${where}: this kind of repository has no option ${key}${near === undefined ? "" : `; did you mean ${near}?`}`,
      known.length === 0 ? "A directory takes none of them." : `Possible here: ${known.join(", ")}.`,
    );
  }
}

function flagOf(given: string | undefined, key: string, { where }: LocationSource): boolean | undefined {
  if (given === undefined) return undefined;
  if (given === "true" || given === "false") return given === "true";
  throw configError(`${where}: ${key} is neither true nor false`);
}

function fileOf(given: string | undefined, { directory }: LocationSource): string | undefined {
  return given === undefined ? undefined : path.resolve(directory, given);
}

function decoded(text: string, source: LocationSource): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw configError(`${source.where}: the location is not percent-encoded rightly`, "Write a literal % as %25.");
  }
}

function unusable(text: string, { where }: LocationSource, what: string): Error {
  return configError(`${where}: ${JSON.stringify(withoutSecrets(text))} ${what}`, REPOSITORY_FORMS);
}
