import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import { SqlSession } from "./apps/sql-session.ts";
import type { Deployment } from "./deployment.ts";

/** What nobody may find who has only the log or the repository. Each stands where it is stored as it is, if it is not encrypted. */
export const SECRETS = {
  row: "swordfish-in-a-row",
  largeRow: "swordfish-in-a-large-row",
  path: "swordfish-in-a-path",
  file: "swordfish-in-a-file",
  largeFile: "swordfish-in-a-large-file",
  attribute: "swordfish-in-an-attribute",
  link: "swordfish-in-a-link",
  mark: "swordfish-in-a-mark",
} as const;

/** The embedded log is a database itself: a text may lie across two of its pages, and be found nowhere for that. */
const COPIES = 4;

/** Rows and files with the secrets in them, amid what can be compressed and what cannot. */
export async function writeSecrets({ database, pathOf }: SecretPlace, tree: string): Promise<void> {
  await using app = new SqlSession(database);
  await app.run("PRAGMA journal_mode=WAL");
  await app.run("CREATE TABLE IF NOT EXISTS secret (id INTEGER PRIMARY KEY, body BLOB)");
  await app.run(`INSERT INTO secret (body) VALUES ('${SECRETS.row}' || randomblob(3000))`);
  const large = `randomblob(20000) || '${SECRETS.largeRow}' || `;
  await app.run(`INSERT INTO secret (body) VALUES (${large.repeat(4)} randomblob(20000))`);
  const root = pathOf(tree);
  fs.mkdirSync(root, { recursive: true });
  const write = (name: string, bytes: number, secret: string): string => {
    const file = path.join(root, name);
    const among = Array.from({ length: COPIES }, () => [randomBytes(bytes), Buffer.from(secret)]).flat();
    fs.writeFileSync(file, Buffer.concat(among));
    return file;
  };
  write(SECRETS.path, 10, "");
  write("small", 100, SECRETS.file);
  write("large", 300_000, SECRETS.largeFile);
  execFileSync("setfattr", ["-n", "user.note", "-v", SECRETS.attribute, write("noted", 100, "")]);
  fs.rmSync(path.join(root, "link"), { force: true });
  fs.symlinkSync(SECRETS.link, path.join(root, "link"));
}

type SecretPlace = Pick<Deployment, "database"> & { readonly pathOf: (name: string) => string };

/** Which of the secrets, and of `more`, stand in any file under these directories. */
export function secretsIn(directories: readonly string[], more: readonly string[] = []): string[] {
  const contents = directories.flatMap((directory) =>
    fs
      .readdirSync(directory, { recursive: true, encoding: "utf8" })
      .map((name) => path.join(directory, name))
      .filter((file) => fs.statSync(file).isFile())
      .map((file) => fs.readFileSync(file)),
  );
  const all = [...Object.values(SECRETS), ...more];
  return all.filter((secret) => contents.some((content) => content.includes(secret)));
}
