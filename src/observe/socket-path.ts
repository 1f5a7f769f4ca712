import fs from "node:fs";
import path from "node:path";

export const SOCKET_NAME = "control.sock";
/** sun_path of Linux holds 108 bytes with its terminating zero. */
const MAX_PATH_BYTES = 107;

/** A socket's address that the kernel takes, however deep its directory lies. Dispose it when the socket is closed. */
export class SocketPath implements Disposable {
  /** The real place, for messages. */
  readonly file: string;
  readonly address: string;
  readonly #descriptor: number | undefined;

  /** @throws ENOENT and others of the directory, when its path is long */
  constructor(directory: string) {
    this.file = path.join(directory, SOCKET_NAME);
    if (Buffer.byteLength(this.file) <= MAX_PATH_BYTES) {
      this.address = this.file;
      return;
    }
    // The kernel follows /proc/self/fd to the open directory, so the address stays short.
    this.#descriptor = fs.openSync(directory, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
    this.address = `/proc/self/fd/${this.#descriptor}/${SOCKET_NAME}`;
  }

  [Symbol.dispose](): void {
    if (this.#descriptor !== undefined) fs.closeSync(this.#descriptor);
  }
}
