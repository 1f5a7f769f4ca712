import { configError } from "./config-error.ts";

/** Files that SQLite keeps beside a database. */
export const SQLITE_COMPANIONS = /-(wal|shm|journal)$/;

/** @throws CONFIG */
export function requireDatabaseName(name: string, where: string): string {
  return requireName(name, { where, what: "a database", flag: "--db" });
}

/** Of the texts in a record of the log. */
const MAX_NAME_BYTES = 255;

/** The name becomes a path under the standby and under a restore's target. @throws CONFIG */
export function requireName(
  name: string,
  { where, what, flag }: { where: string; what: string; flag: string },
): string {
  const parts = name.split("/");
  const fault =
    [
      [name === "", "it is empty"],
      [parts.some((part) => part === "" || part === "." || part === ".."), "it must be a plain relative path"],
      [parts[0] === ".tidemark", "Tidemark keeps its own state there"],
      [/[\p{Cc}\\]/u.test(name) || !name.isWellFormed(), "it holds a control character or a backslash"],
      [parts.some((part) => Buffer.byteLength(part) > 200), "it is too long for a file name"],
      [Buffer.byteLength(name) > MAX_NAME_BYTES, `it is longer than ${MAX_NAME_BYTES} bytes`],
      [SQLITE_COMPANIONS.test(name), "SQLite keeps files with such names beside a database"],
      [name.endsWith(".tidemark-new"), "Tidemark gives such names to files that it makes"],
    ].find(([faulty]) => faulty === true)?.[1] ?? undefined;
  if (fault === undefined) return name;
  throw configError(
    `${where}: ${JSON.stringify(name)} cannot name ${what} on the standby: ${String(fault)}`,
    `Give another: ${flag} PATH=NAME.`,
  );
}
