import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const SOURCE = fileURLToPath(new URL("wal-fault.c", import.meta.url));

export type WalFaultOrder = "sync kill" | "sync EIO" | "sync ENOSPC" | "write EIO" | "write ENOSPC";

/** Breaks an application's calls on its WAL (see wal-fault.c). The library is compiled into `directory`. */
export class WalFault {
  readonly #orders: string;
  /** Environment of the application. */
  readonly env: Record<string, string>;

  constructor(directory: string) {
    const library = path.join(directory, "wal-fault.so");
    this.#orders = path.join(directory, "wal-fault-order");
    execFileSync("cc", ["-O2", "-shared", "-fPIC", "-o", library, SOURCE]);
    this.env = { LD_PRELOAD: library, TIDEMARK_TEST_FAULT: this.#orders };
  }

  order(order: WalFaultOrder): void {
    fs.writeFileSync(this.#orders, order);
  }

  lift(): void {
    fs.rmSync(this.#orders, { force: true });
  }
}
