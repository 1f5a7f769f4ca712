import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, posix, relative, resolve } from "node:path";
import { expect, test } from "vitest";

const SRC = resolve(import.meta.dirname, "../../src");

/**
 * The data flow, outermost first: a folder may import itself and what stands in a later row, never an earlier one, and
 * never another folder of its own row (so capture and replica meet only at the log).
 */
const ROWS: readonly (readonly string[])[] = [
  ["cli"],
  ["compose"],
  ["failover", "restore", "observe"],
  ["replica", "capture"],
  ["log", "repository"],
  ["sqlite", "tree"],
  ["event", "keys"],
  ["format"],
  ["runtime"],
];

/** What a run works with is told to these; the rest get single values. */
const READS_CONFIG: ReadonlySet<string> = new Set([
  "cli",
  "compose",
  "observe",
  "restore",
  "failover",
  "capture",
  "replica",
  "log",
  "repository",
  "keys",
]);
/** What config itself may use: the checks of values it shares with the layers below. */
const CONFIG_READS: ReadonlySet<string> = new Set(["config", "event", "format", "runtime"]);

interface Import {
  readonly file: string;
  readonly target: string;
}

const sourceFiles = (): string[] =>
  readdirSync(SRC, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));

/** `capture` of `capture/sqlite/pin.ts`; `compose` of `compose.ts`. */
const folderOf = (file: string): string => file.split("/")[0]?.replace(/\.ts$/, "") ?? "";

function importsOf(file: string, source: string): Import[] {
  const specifiers = [...source.matchAll(/\bfrom\s+"([^"]+)"|\bimport\s*\(\s*"([^"]+)"|^import\s+"([^"]+)"/gm)];
  return specifiers
    .map((match) => match[1] ?? match[2] ?? match[3] ?? "")
    .filter((specifier) => specifier.startsWith("."))
    .map((specifier) => ({ file, target: posix.normalize(posix.join(posix.dirname(file), specifier)) }));
}

function isAllowed({ file, target }: Import): boolean {
  const from = folderOf(file);
  const to = folderOf(target);
  if (from === to) return true;
  if (from === "config") return CONFIG_READS.has(to);
  if (to === "config") return READS_CONFIG.has(from);
  const rowOf = (folder: string): number => ROWS.findIndex((row) => row.includes(folder));
  return rowOf(from) >= 0 && rowOf(to) > rowOf(from);
}

const allImports = (): Import[] =>
  sourceFiles().flatMap((file) => importsOf(file, readFileSync(join(SRC, file), "utf8")));

test("imports run one way, along the data flow", () => {
  const backward = allImports().filter((found) => !isAllowed(found));
  expect(backward.map(({ file, target }) => `${file} imports ${target}`)).toEqual([]);
});

test("the rule itself refuses what it must", () => {
  const judge = (file: string, target: string): boolean => isAllowed({ file, target });
  expect(judge("capture/start-capture.ts", "replica/replica-agent.ts")).toBe(false);
  expect(judge("replica/replica-agent.ts", "capture/capture-agent.ts")).toBe(false);
  expect(judge("runtime/clock.ts", "event/positions.ts")).toBe(false);
  expect(judge("log/log-writer.ts", "capture/capture-agent.ts")).toBe(false);
  expect(judge("unknown/a.ts", "runtime/clock.ts")).toBe(false);
  expect(judge("event/codec.ts", "config/config.ts")).toBe(false);
  expect(judge("cli/main.ts", "runtime/clock.ts")).toBe(true);
  expect(
    importsOf("a/b.ts", 'import { x } from "../c/d.ts";\nawait import("./e.ts");\nexport { y } from "../f.ts";'),
  ).toEqual([
    { file: "a/b.ts", target: "c/d.ts" },
    { file: "a/b.ts", target: "a/e.ts" },
    { file: "a/b.ts", target: "f.ts" },
  ]);
});

test("the sources import neither tests nor scripts", () => {
  const outside = allImports().filter(({ target }) => target.startsWith(".."));
  expect(outside).toEqual([]);
});

test("only compose constructs the adapters of the log", () => {
  const adapters = ["log/embedded-log.ts", "log/jetstream-log.ts"];
  const makers = allImports().filter(({ file, target }) => adapters.includes(target) && folderOf(file) !== "log");
  expect([...new Set(makers.map(({ file }) => folderOf(file)))].filter((folder) => folder !== "compose")).toEqual([]);
});

test("no barrels, and no folder or file named after nothing in particular", () => {
  const vague = /(^|\/)(utils?|helpers?|manager|common|misc|index)(\.ts|\/)/;
  expect(sourceFiles().filter((file) => vague.test(file))).toEqual([]);
});

test("files are kebab-case", () => {
  const named = sourceFiles().map((file) => relative(dirname(file), file));
  expect(named.filter((name) => !/^[a-z0-9]+(-[a-z0-9]+)*\.ts$/.test(name))).toEqual([]);
});

test("time and timers come from runtime", () => {
  const offenders = sourceFiles()
    .filter((file) => folderOf(file) !== "runtime")
    .flatMap((file) => timersIn(file, readFileSync(join(SRC, file), "utf8")));
  expect(offenders).toEqual([]);
});

/** Bare calls only: `sleep`, a Clock's `now()`, and somebody else's method of that name are fine. */
function timersIn(file: string, source: string): string[] {
  return source.split("\n").flatMap((line, index) => {
    const code = line.replace(/\/\/.*|^\s*\*.*/, "");
    const used =
      /\bDate\.now\b|(?<![.\w])set(Timeout|Interval)\(|\bnew Date\(\)|set(Timeout|Interval)\b.*node:timers/.test(code);
    return used ? [`${file}:${index + 1}: ${line.trim()}`] : [];
  });
}

test("the search for timers finds them", () => {
  expect(timersIn("a.ts", "const x = Date.now();\nsetTimeout(f, 1);\nsleep(1);\n// Date.now()\n")).toHaveLength(2);
});
