import fs from "node:fs";

import type { WalPosition } from "../../event/kinds.ts";
import { FRAME_HEADER_BYTES, FrameRun, frameByteOffset } from "../../format/wal.ts";

/** More than this is not kept. */
const MAX_BYTES = 2 * 1024 * 1024;
const PIECE_FRAMES = 64;

/**
 * The frames behind a position, of the same generation of the WAL, read while no pin protects them. Their salts are looked
 * at; that they are what was committed is for the reader to prove, by count and checksum.
 */
export class WalTail {
  readonly #walFd: number;
  readonly #position: WalPosition;
  readonly #pageSize: number;
  readonly #frameBytes: number;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  #frames = 0;

  constructor(walFd: number, position: WalPosition, pageSize: number) {
    this.#walFd = walFd;
    this.#position = position;
    this.#pageSize = pageSize;
    this.#frameBytes = FRAME_HEADER_BYTES + pageSize;
    this.#bytes = new Uint8Array(Math.floor(MAX_BYTES / this.#frameBytes) * this.#frameBytes);
  }

  /** Reads on to frame `frame`, which is committed. False when there is no room for more. */
  readTo(frame: number): boolean {
    const end = Math.min(frame - this.#position.frame, this.#bytes.length / this.#frameBytes);
    while (this.#frames < end && this.#readPiece(end - this.#frames) > 0);
    return this.#frames < this.#bytes.length / this.#frameBytes;
  }

  /** Reads what stands there after a restart, up to where the new generation or nothing is. */
  readRest(): void {
    const end = this.#bytes.length / this.#frameBytes;
    while (this.#frames < end && this.#readPiece(end - this.#frames) === PIECE_FRAMES);
  }

  /** A copy of the frames. */
  take(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#frames * this.#frameBytes);
  }

  /** Returns how many frames of the generation were there. */
  #readPiece(most: number): number {
    const { salt1, salt2, frame } = this.#position;
    const start = this.#frames * this.#frameBytes;
    const piece = this.#bytes.subarray(start, start + Math.min(most, PIECE_FRAMES) * this.#frameBytes);
    const byteOffset = frameByteOffset(frame + this.#frames + 1, this.#pageSize);
    const whole = Math.floor(fs.readSync(this.#walFd, piece, 0, piece.length, byteOffset) / this.#frameBytes);
    const run = new FrameRun(piece, { bigEndian: false, start: { c1: 0, c2: 0 } });
    let ours = 0;
    while (ours < whole && run.hasSalts(ours * this.#frameBytes, salt1, salt2)) ours += 1;
    this.#frames += ours;
    return ours;
  }
}
