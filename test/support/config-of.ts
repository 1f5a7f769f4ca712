import { readConfigFile } from "../../src/config/config-file.ts";
import { loadConfig, type Role } from "../../src/config/load-config.ts";

/** A configuration that is a file and nothing else. */
export function configOf(file: string, role: Role): ReturnType<typeof loadConfig> {
  return loadConfig({ role, flags: {}, environment: {}, directory: "/", file: readConfigFile(file, {}) });
}
