import fs from "node:fs";
import path from "node:path";

import { type Document, isCollection, isMap, LineCounter, type Node, parseDocument } from "yaml";

import { errnoOf } from "../runtime/errors.ts";
import { configError, notAvailable } from "./config-error.ts";
import { type FileConfig, fileSchema, knownKeysAt, LATER_KEYS } from "./config-schema.ts";
import { withoutSecrets } from "./log-location.ts";
import { nearestName } from "./nearest-name.ts";

const MAX_FILE_BYTES = 1024 * 1024;
const SECRET_KEYS: ReadonlySet<string> = new Set(["password", "token", "identity", "recipients"]);

export type Environment = Readonly<Record<string, string | undefined>>;
type KeyPath = readonly PropertyKey[];

export interface ConfigFile {
  /** Absolute. */
  readonly path: string;
  readonly values: FileConfig;
  /** `/etc/tidemark.yml:7: wal.max`, for messages about the value at a key path. */
  where(keys: KeyPath): string;
}

/** Reads tidemark.yml: YAML, `${VARIABLE}` in values, strict keys. @throws CONFIG */
export function readConfigFile(file: string, environment: Environment): ConfigFile {
  const source = new Source(path.resolve(file), readBounded(file));
  const values = expandVariables(source.value, [], { source, environment });
  refuseLaterKeys(source, values);
  const parsed = fileSchema.safeParse(values ?? {});
  if (!parsed.success) throw explainIssue(source, values, parsed.error.issues);
  return { path: source.file, values: parsed.data, where: (keys) => source.where(keys) };
}

function readBounded(file: string): string {
  try {
    const { size } = fs.statSync(file);
    if (size > MAX_FILE_BYTES) throw configError(`${file}: ${size} bytes are too many for a configuration file`);
    return fs.readFileSync(file, "utf8");
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    const what =
      errno === "ENOENT" ? "there is no such configuration file" : `the configuration file cannot be read (${errno})`;
    throw configError(
      `${file}: ${what}`,
      "Give the right file with -c FILE, or use --db, --standby and --log instead.",
    );
  }
}

/** The parsed document with its places. */
class Source {
  readonly file: string;
  readonly value: unknown;
  readonly #document: Document.Parsed;
  readonly #lines = new LineCounter();

  constructor(file: string, text: string) {
    this.file = file;
    this.#document = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false });
    const [error] = this.#document.errors;
    if (error) throw this.#invalid(error.pos[0], error.message);
    try {
      this.value = this.#document.toJS({ maxAliasCount: 100 });
    } catch (thrown) {
      throw this.#invalid(0, thrown instanceof Error ? thrown.message : String(thrown));
    }
  }

  where(keys: KeyPath): string {
    const start = this.#startOf(keys);
    const line = start === undefined ? "" : `:${this.#lines.linePos(start).line}`;
    return [`${this.file}${line}`, dotted(keys)].filter((part) => part !== "").join(": ");
  }

  #invalid(start: number, message: string): Error {
    const { line, col } = this.#lines.linePos(start);
    return configError(`${this.file}:${line}:${col}: this is no valid YAML: ${message.replace(/\.$/, "")}`);
  }

  /** Where the key stands; of the nearest key above it when it stands nowhere. */
  #startOf(keys: KeyPath): number | undefined {
    let node: unknown = this.#document.contents;
    let start = (node as Node | null)?.range?.[0];
    for (const key of keys) {
      if (isMap(node)) {
        const pair = node.items.find((item) => String(item.key) === String(key));
        start = (pair?.key as Node | undefined)?.range?.[0] ?? start;
        node = pair?.value;
      } else if (isCollection(node)) {
        node = node.get(key, true);
        start = (node as Node | undefined)?.range?.[0] ?? start;
      } else return start;
    }
    return start;
  }
}

/** `databases[0].path` */
function dotted(keys: KeyPath): string {
  return keys
    .map((key) => (typeof key === "number" ? `[${key}]` : `.${String(key)}`))
    .join("")
    .replace(/^\./, "");
}

function expandVariables(
  value: unknown,
  keys: KeyPath,
  context: { source: Source; environment: Environment },
): unknown {
  if (typeof value === "string") return expandText(value, keys, context);
  if (Array.isArray(value)) return value.map((item, index) => expandVariables(item, [...keys, index], context));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([key, item]) => [key, expandVariables(item, [...keys, key], context)]);
  return Object.fromEntries(entries) as unknown;
}

/** `${NAME}` becomes the variable's value; `$${` stays as `${`. */
function expandText(text: string, keys: KeyPath, context: { source: Source; environment: Environment }): string {
  return text.replaceAll(/\$?\$\{([^}]*)\}/g, (whole, name: string) => {
    if (whole.startsWith("$$")) return whole.slice(1);
    const found = context.environment[name];
    if (found !== undefined) return found;
    throw configError(
      `${context.source.where(keys)}: the environment variable ${JSON.stringify(name)} is not set`,
      "Set it before starting Tidemark; write $${ for a literal ${.",
    );
  });
}

function refuseLaterKeys(source: Source, values: unknown): void {
  for (const later of LATER_KEYS) {
    const keys = later.split(".");
    const given = keys.reduce<unknown>((at, key) => (isRecord(at) ? at[key] : undefined), values);
    if (given !== undefined) throw notAvailable(source.where(keys), `the key ${later}`);
  }
}

interface Issue {
  readonly code: string;
  readonly path: KeyPath;
  readonly message: string;
  readonly keys?: readonly string[];
  readonly expected?: string;
  readonly values?: readonly unknown[];
  readonly errors?: readonly (readonly Issue[])[];
}

/** One message about the first fault: a list of everything would bury it. */
function explainIssue(source: Source, values: unknown, issues: readonly unknown[]): Error {
  const all = (issues as readonly Issue[]).flatMap((issue) => innermost(issue, values));
  const issue = all.find(({ code }) => code === "unrecognized_keys") ?? all[0];
  if (!issue) return configError(`${source.file}: not understood`);
  if (issue.code === "unrecognized_keys") return unknownKey(source, issue);
  const given = valueAt(values, issue.path);
  const where = source.where(issue.path);
  if (given === undefined) return configError(`${where}: is missing`);
  return configError(`${where}: ${shown(given, issue.path)} ${complaint(issue, given)}`);
}

/** Of a union ("a text, or an object") the alternative that was meant: the object when an object was given. */
function innermost(issue: Issue, values: unknown): Issue[] {
  if (issue.code !== "invalid_union" || !isRecord(valueAt(values, issue.path))) return [issue];
  const alternative = issue.errors?.at(-1) ?? [];
  return alternative.map((inner) => ({ ...inner, path: [...issue.path, ...inner.path] }));
}

function unknownKey(source: Source, issue: Issue): Error {
  const [key = ""] = issue.keys ?? [];
  const known = knownKeysAt(issue.path) ?? [];
  const near = nearestName(key, known);
  const message = `${source.where([...issue.path, key])}: there is no such key`;
  return configError(
    near === undefined ? message : `${message}; did you mean ${near}?`,
    `Known here: ${known.join(", ")}.`,
  );
}

function complaint(issue: Issue, given: unknown): string {
  switch (issue.code) {
    case "invalid_type": {
      const quote = issue.expected === "string" && typeof given !== "object" ? "; put it in quotes" : "";
      return `is ${kindOf(given)} where ${KINDS[issue.expected ?? ""] ?? issue.expected} is expected${quote}`;
    }
    case "invalid_value":
      return `is none of ${(issue.values ?? []).join(", ")}`;
    case "invalid_union":
      return `is ${kindOf(given)}, which is not possible here`;
    default:
      return issue.message;
  }
}

const KINDS: Readonly<Record<string, string>> = {
  string: "a text",
  number: "a number",
  array: "a list",
  object: "a group of keys",
};

function kindOf(value: unknown): string {
  if (value === null) return "nothing";
  if (Array.isArray(value)) return "a list";
  return KINDS[typeof value] ?? `a ${typeof value}`;
}

function shown(value: unknown, keys: KeyPath): string {
  if (keys.some((key) => SECRET_KEYS.has(String(key)))) return "(not shown)";
  const text = JSON.stringify(typeof value === "string" ? withoutSecrets(value) : value);
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

function valueAt(values: unknown, keys: KeyPath): unknown {
  return keys.reduce<unknown>((at, key) => {
    if (Array.isArray(at)) return at[Number(key)] as unknown;
    return isRecord(at) ? at[String(key)] : undefined;
  }, values);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
