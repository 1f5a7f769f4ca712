import { afterAll, beforeAll } from "vitest";

import { SftpStore } from "../../src/repository/sftp-store.ts";
import { SftpServer } from "../support/sftp-server.ts";
import { objectStoreContract } from "./object-store.ts";

let server: SftpServer;
let places = 0;

beforeAll(async () => {
  server = await SftpServer.start();
});
afterAll(async () => await server[Symbol.asyncDispose]());

objectStoreContract(async () => {
  places += 1;
  const place = { ...server.place, directory: server.at(`served/${places}/app`) };
  return { open: () => new SftpStore(place), [Symbol.asyncDispose]: async () => undefined };
});
