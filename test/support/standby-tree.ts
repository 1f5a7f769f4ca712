import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import type { Offset } from "../../src/event/positions.ts";
import { ReplicaFixture } from "./replica-fixture.ts";
import { TreeSource } from "./tree-source.ts";

/** A tree on a primary, whose changes are put into the log of a fixture when a test says so. */
export class StandbyTreeScene implements AsyncDisposable {
  readonly fixture: ReplicaFixture;
  readonly root: string;
  readonly source: TreeSource;

  private constructor(fixture: ReplicaFixture, options: { readonly inline?: number }) {
    this.fixture = fixture;
    this.root = path.join(fixture.directory, "uploads");
    this.source = new TreeSource("uploads", this.root, options);
    fs.mkdirSync(this.root);
  }

  static async open(options: { readonly inline?: number } = {}): Promise<StandbyTreeScene> {
    return new StandbyTreeScene(await ReplicaFixture.open(), options);
  }

  /** Of the tree on the standby. */
  get standby(): string {
    return this.fixture.file("uploads");
  }

  /** What changed, into the log. Returns its head. */
  async publish(): Promise<Offset> {
    const { puts, removals } = this.source.changes();
    const { log } = this.fixture;
    for (const bodies of [puts, removals]) if (bodies.length > 0) await log.append(bodies);
    return log.writer.head;
  }

  write(name: string, content: string | Uint8Array): void {
    const file = path.join(this.root, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, content);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.fixture[Symbol.asyncDispose]();
  }
}

/** SHA-256 of every regular file below a directory. */
export function contentsOf(directory: string): string[] {
  const found = fs.readdirSync(Buffer.from(directory), { recursive: false, withFileTypes: true, encoding: "buffer" });
  return found.flatMap((entry) => {
    const place = Buffer.concat([Buffer.from(`${directory}/`), entry.name]);
    if (entry.isDirectory()) return contentsOf(place.toString());
    return entry.isFile() ? [createHash("sha256").update(fs.readFileSync(place)).digest("hex")] : [];
  });
}
