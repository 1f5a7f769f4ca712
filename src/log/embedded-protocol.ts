import type { LogBeginning } from "./change-log.ts";
import { type ErrorCode, TidemarkError } from "../runtime/errors.ts";

/** What the main thread and the thread that owns the embedded log's write connection say to each other. */

export interface AppendRequest {
  readonly type: "append";
  /** Rises by one with every request. */
  readonly id: number;
  /** Of the failures that the sender knows of; see `failed`. */
  readonly round: number;
  readonly expectedHead: number;
  readonly records: readonly Uint8Array[];
  readonly times: readonly number[];
  readonly epochs: readonly number[];
}

export type ToWorker =
  | AppendRequest
  /** Gives up `id` and all later appends. */
  | { readonly type: "abandon"; readonly id: number }
  | { readonly type: "trim"; readonly id: number; readonly through: number }
  | { readonly type: "close" };

export type FromWorker =
  | { readonly type: "opened" }
  | { readonly type: "refused"; readonly error: PlainError }
  | { readonly type: "done"; readonly id: number; readonly head: number }
  /**
   * From an append that failed until the sender answers with a request of this `round`, every append fails with it:
   * one that was sent before the sender knew must not land although the one before it did not.
   */
  | {
      readonly type: "failed";
      readonly id: number;
      readonly round: number;
      readonly error: PlainError;
    }
  /** Waiting for something that can come back, such as room on the disk. */
  | { readonly type: "problem"; readonly error: PlainError };

export interface WorkerOptions {
  readonly directory: string;
  readonly set: string;
  readonly begin?: LogBeginning | undefined;
}

export interface PlainError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string;
}

export const toPlain = (error: TidemarkError): PlainError => ({
  code: error.code,
  message: error.message,
  hint: error.hint,
});
export const fromPlain = (plain: PlainError): TidemarkError =>
  new TidemarkError(plain.code, plain.message, { hint: plain.hint });
