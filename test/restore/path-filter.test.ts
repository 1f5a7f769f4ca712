import { expect, test } from "vitest";

import { PathFilter } from "../../src/restore/path-filter.ts";

const NAMES = [
  ".env",
  "uploads",
  "uploads/.htaccess",
  "uploads/2026",
  "uploads/2026/.draft/a.pdf",
  "uploads/2026/b.pdf",
  "uploads/2026/b.txt",
  "uploads/2026-old",
  "uploads/[1] (copy)!.pdf",
  "uploads/dépôt/é.pdf",
  "uploads/bad\\xff.pdf",
];

const below = (directory: string): string[] => NAMES.filter((name) => `${name}/`.startsWith(`${directory}/`));

test.each([
  ["uploads", below("uploads")],
  ["uploads/", below("uploads")],
  ["./uploads", below("uploads")],
  ["uploads/**", below("uploads")],
  ["uploads/2026", below("uploads/2026")],
  ["uploads/2026*", [...below("uploads/2026"), "uploads/2026-old"]],
  ["uploads/*", below("uploads").slice(1)],
  ["**/*.pdf", NAMES.filter((name) => name.endsWith(".pdf"))],
  ["uploads/**/b.{pdf,txt}", ["uploads/2026/b.pdf", "uploads/2026/b.txt"]],
  ["uploads/[1] (copy)!.pdf", ["uploads/[1] (copy)!.pdf"]],
  ["uploads/d?p?t", ["uploads/dépôt/é.pdf"]],
  ["uploads/bad\\xff.pdf", ["uploads/bad\\xff.pdf"]],
  ["!uploads", []],
  [".e*", [".env"]],
  ["upload", []],
])("--path %s", (glob, expected) => {
  const filter = new PathFilter([glob]);
  expect(NAMES.filter((name) => filter.matches(name))).toEqual(expected);
  expect(filter.unused).toBe(expected.length === 0 ? glob : undefined);
});

test("several patterns add up, and one that matches nothing is named", () => {
  const filter = new PathFilter([".env", "uploads/2027/**", "uploads/**/*.txt"]);
  expect(NAMES.filter((name) => filter.matches(name))).toEqual([".env", "uploads/2026/b.txt"]);
  expect(filter.unused).toBe("uploads/2027/**");
});
