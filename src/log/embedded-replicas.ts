import fs from "node:fs";
import path from "node:path";

import { makeDirectory } from "../runtime/durable-directory.ts";
import { readIfThere, replaceFile } from "../runtime/replace-file.ts";
import type { RegisteredReplica } from "./change-log.ts";
import { decodeRegistration, encodeRegistration } from "./registration.ts";

const SUFFIX = ".json";

/** `<log>/replicas/<standby>.json`: whoever reads the log says there how far it is. */
function directoryOf(log: string): string {
  return path.join(log, "replicas");
}

export function writeRegistration(log: string, replica: RegisteredReplica): void {
  makeDirectory(directoryOf(log));
  replaceFile(path.join(directoryOf(log), `${replica.id}${SUFFIX}`), encodeRegistration(replica), { mode: 0o644 });
}

export function readRegistrations(log: string): RegisteredReplica[] {
  const directory = directoryOf(log);
  if (!fs.existsSync(directory)) return [];
  const names = fs.readdirSync(directory).filter((name) => name.endsWith(SUFFIX));
  return names.flatMap((name) => {
    const place = path.join(directory, name);
    const text = readIfThere(place);
    return text === undefined ? [] : [decodeRegistration(text, place)];
  });
}
