import fs from "node:fs";
import { builtinModules } from "node:module";
import path from "node:path";

import { expect, test } from "vitest";

// Every package a command loads costs its start: what only some of them need is loaded when it is needed.

const SRC = path.resolve(import.meta.dirname, "../../src");

/** Packages and Node's own modules that a file loads before its first line runs, through all that it imports. */
function loadedBy(start: string): Set<string> {
  const packages = new Set<string>();
  const files = new Set<string>();
  const visit = (file: string): void => {
    if (files.has(file)) return;
    files.add(file);
    for (const specifier of valueImports(fs.readFileSync(file, "utf8"))) {
      if (specifier.startsWith(".")) visit(path.resolve(path.dirname(file), specifier));
      else packages.add(specifier);
    }
  };
  visit(path.join(SRC, start));
  return packages;
}

/** Not `import type`, which leaves nothing behind, nor `import()`. */
function valueImports(source: string): string[] {
  const found = source.matchAll(/^(?:import|export)\s+(?!type\b)(?:[^"';]*?\sfrom\s+)?"([^"]+)"/gm);
  return [...found].map(([, specifier = ""]) => specifier);
}

const packagesOf = (start: string): string[] =>
  [...loadedBy(start)].filter((name) => !builtinModules.includes(name.replace(/^node:/, ""))).toSorted();

test("the command line itself needs its parser and nothing else", () => {
  expect(packagesOf("cli/run-tidemark.ts")).toEqual(["commander"]);
});

test("a command that asks the agent needs no SQLite, no NATS, no S3, and what reads a configuration only where there is one", () => {
  const known = ["commander", "fastest-levenshtein", "msgpackr/pack", "xxhash-wasm"];
  for (const command of ["status", "sync", "mark"]) {
    expect(packagesOf(`cli/${command}.ts`).filter((name) => !known.includes(name))).toEqual([]);
  }
});

test("a restore from a repository needs neither what reads a configuration nor a client of a service", () => {
  const loaded = ["cli/restore.ts", "cli/open-history.ts", "compose.ts", "restore/restore.ts", "restore/archive.ts"];
  const known = ["@napi-rs/xattr", "better-sqlite3", "commander", "fastest-levenshtein", "msgpackr", "msgpackr/pack"];
  known.push("msgpackr/unpack", "picomatch", "xxhash-wasm");
  expect(loaded.flatMap(packagesOf).filter((name) => !known.includes(name))).toEqual([]);
});

test("agents load clients of NATS, S3 and Prometheus, and what draws on a terminal, only when they are to use them", () => {
  const late = /^(@nats-io|@aws-sdk|prom-client|age-encryption|pino-pretty)/;
  const agents = ["cli/run-agent.ts", "compose/start-agents.ts", "compose.ts"];
  expect(agents.flatMap((start) => [...loadedBy(start)].filter((name) => late.test(name)))).toEqual([]);
});

test("node:http is had without undici, except where S3 loads it anyway", () => {
  const importers = fs
    .readdirSync(SRC, { recursive: true, encoding: "utf8" })
    .filter(
      (file) =>
        file.endsWith(".ts") &&
        /^import (?!type\b).*"node:https?"/m.test(fs.readFileSync(path.join(SRC, file), "utf8")),
    );
  expect(importers).toEqual(["repository/s3-client.ts"]);
});

test("the search for imports finds them", () => {
  expect(
    valueImports(
      'import a from "a";\nimport type { T } from "t";\nimport {\n  type X,\n  b,\n} from "b";\nexport { c } from "./c.ts";\nimport "d";\nconst e = await import("e");',
    ),
  ).toEqual(["a", "b", "./c.ts", "d"]);
});
