import type { Logger } from "pino";

import type { CaptureConfig, DatabaseConfig } from "../../config/config.ts";
import type { Waker } from "../../runtime/waker.ts";
import type { Checkpointer } from "./checkpointer.ts";
import type { DatabaseProgress } from "./database-progress.ts";
import type { IndexSaver } from "./index-saver.ts";
import type { LogRoomOptions } from "./log-room.ts";
import type { PinBudget } from "./pin-budget.ts";
import type { RestingRounds } from "./resting-rounds.ts";
import type { ScrubOptions } from "./scrub.ts";
import type { Shipper, ShippedState, ShipperOptions } from "./shipper.ts";
import type { SyncRequests } from "./sync-requests.ts";

/** What the capture of one database gets from its agent. */
export interface DatabaseCaptureOptions extends LogRoomOptions {
  readonly database: DatabaseConfig;
  readonly config: CaptureConfig;
  readonly shipped: ShippedState | undefined;
  /** When the log last held everything, ms since 1970: since when a first repair must say that a gap may exist. */
  readonly shippedAtMs: number;
  readonly shipper: Omit<ShipperOptions, "database" | "room">;
  /** Whether a seal's worth can be sent without waiting for room. */
  readonly hasSlack: () => boolean;
  /** Resolves when so little is unacknowledged that a copy may send more. Rejects when the log refused an append. */
  readonly slack: () => Promise<void>;
  /** Stores the index once everything sent is acknowledged. False when that takes longer than `patienceMs`. */
  readonly save: (shipped: ShippedState, patienceMs: number | undefined) => Promise<boolean>;
  /** Stores at once that the index describes no file any more. */
  readonly forgetFile: () => void;
  /** A pattern found it, or it was captured before: when it cannot be captured now, it is waited for. */
  readonly mayWait: boolean;
  readonly budget: PinBudget;
  readonly rounds: RestingRounds;
  readonly checkpointer: Checkpointer;
  readonly scrub: ScrubOptions;
  readonly logger: Logger;
  /** Abort: capture what is committed by then, and end. */
  readonly stop: AbortSignal;
}

/** What the parts of one database's capture share. It outlives sessions. */
export interface DatabaseParts {
  readonly options: DatabaseCaptureOptions;
  readonly shipper: Shipper;
  readonly progress: DatabaseProgress;
  readonly saver: IndexSaver;
  readonly syncs: SyncRequests;
  readonly waker: Waker;
  /** Resolves when the log has room. @throws WAL_GAP when the pin was let go meanwhile */
  readonly waitForRoom: () => Promise<void>;
  /** Resolves when a copy may send more. @throws WAL_GAP when the pin was let go meanwhile */
  readonly waitForSlack: () => Promise<void>;
}
