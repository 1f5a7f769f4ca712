import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { expect, test } from "vitest";
import { readConfigFile } from "../../src/config/config-file.ts";
import { fileSchema, knownKeysAt } from "../../src/config/config-schema.ts";
import { EXIT } from "../../src/runtime/errors.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const PAGES = [
  "README.md",
  "docs/architecture.md",
  "docs/operations.md",
  "docs/configuration.md",
  "docs/reliability.md",
];
const read = (page: string): string => readFileSync(join(ROOT, page), "utf8");

/** `wal.max` and so on, as the schema knows them. */
function schemaKeys(path: readonly string[] = []): string[] {
  return (knownKeysAt(path) ?? []).flatMap((key) => [[...path, key].join("."), ...schemaKeys([...path, key])]);
}

test("every key of the configuration is documented", () => {
  const page = read("docs/configuration.md");
  // The path of a standby or a database is explained with its parent.
  const keys = schemaKeys().filter((key) => !key.endsWith(".path"));
  expect(keys.length).toBeGreaterThan(Object.keys(fileSchema.shape).length);
  const groups = new Set(keys.filter((key) => keys.some((other) => other.startsWith(`${key}.`))));
  expect(keys.filter((key) => !groups.has(key) && !page.includes(`\`${key}\``))).toEqual([]);
});

test("the examples of tidemark.yml in the documentation are valid", () => {
  const directory = mkdtempSync(join(tmpdir(), "tidemark-docs-"));
  try {
    for (const page of ["README.md", "docs/configuration.md"]) {
      const [example] = /^    set: app\n(?: {4}.*\n)+/m.exec(read(page)) ?? [];
      const file = join(directory, "tidemark.yml");
      writeFileSync(file, (example ?? "").replaceAll(/^ {4}/gm, ""));
      expect(readConfigFile(file, {}).values).toMatchObject({ set: "app", nats: { maxBytes: 50 * 1024 ** 3 } });
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test("links within the documentation lead somewhere", () => {
  const links = PAGES.flatMap((page) =>
    [...read(page).matchAll(/\]\(([^)#]+)[^)]*\)/g)]
      .map((match) => match[1] ?? "")
      .filter((target) => !target.includes("://"))
      .map((target) => ({ page, target })),
  );
  expect(links.length).toBeGreaterThan(5);
  expect(links.filter(({ page, target }) => !existsSync(join(ROOT, dirname(page), target)))).toEqual([]);
});

test("the README has every exit code", () => {
  const rows = [...read("README.md").matchAll(/^\| (\d+) +\| /gm)].map((match) => Number(match[1]));
  expect(rows).toEqual(Object.values(EXIT));
});

test("no page names a machine of ours", () => {
  const named = PAGES.filter((page) => /\/(work|root|tmp\/brief)\b/.test(read(page)));
  expect(named).toEqual([]);
});

test("every test that docs/reliability.md names is there", () => {
  const named = [...read("docs/reliability.md").matchAll(/\]\(\.\.\/(test\/[^)]+)\)((?:,? "[^"]+")+)/g)].flatMap(
    ([, file = "", titles = ""]) => [...titles.matchAll(/"([^"]+)"/g)].map(([, title = ""]) => ({ file, title })),
  );
  expect(named.length).toBeGreaterThan(30);
  expect(named.filter(({ file, title }) => !read(file).includes(title))).toEqual([]);
});
