import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { FsStore } from "../../src/repository/fs-store.ts";
import { objectStoreContract } from "./object-store.ts";

objectStoreContract(async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-store-"));
  return {
    open: () => new FsStore(path.join(directory, "repository")),
    [Symbol.asyncDispose]: async () => fs.rmSync(directory, { recursive: true, force: true }),
  };
});
