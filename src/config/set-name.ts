import path from "node:path";

import { configError } from "./config-error.ts";

const SET_NAME = /^[A-Za-z0-9_-]{1,64}$/;

export function requireSetName(name: string, where: string): string {
  if (SET_NAME.test(name)) return name;
  const shown = JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}…` : name);
  throw configError(
    `${where}: ${shown} is no set name: it becomes a NATS subject token and a directory name`,
    "Use 1 to 64 letters, digits, - and _.",
  );
}

/** `app` of `/srv/app/app.db`; what a subject token cannot hold becomes `-`. */
export function defaultSetName(databasePath: string): string {
  const { name } = path.parse(databasePath);
  const token = name.replace(/[^A-Za-z0-9_-]+/g, "-").replace(/^-+|-+$/g, "");
  return token.slice(0, 64) || "set";
}
