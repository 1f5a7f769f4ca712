import path from "node:path";

import { readIfThere, replaceFile } from "../runtime/replace-file.ts";

/**
 * `<standby>/.tidemark/repositories.json`: which repository was where. An empty place that had one is more often a disk that
 * is not mounted than a wish.
 */
export class KnownRepositories {
  readonly file: string;

  /** @param state directory of the standby's own state */
  constructor(state: string) {
    this.file = path.join(state, "repositories.json");
  }

  /** UUID of the repository that was there; undefined: none that is known of. */
  idAt(location: string): string | undefined {
    return this.#read()[location];
  }

  remember(location: string, id: string): void {
    const known = this.#read();
    if (known[location] === id) return;
    replaceFile(this.file, `${JSON.stringify({ ...known, [location]: id }, undefined, 2)}\n`, { mode: 0o600 });
  }

  /** One that is damaged tells nothing. */
  #read(): Record<string, string> {
    try {
      const read: unknown = JSON.parse(readIfThere(this.file) ?? "{}");
      const entries = Object.entries(typeof read === "object" && read !== null ? read : {});
      return Object.fromEntries(entries.filter((entry): entry is [string, string] => typeof entry[1] === "string"));
    } catch {
      return {};
    }
  }
}
