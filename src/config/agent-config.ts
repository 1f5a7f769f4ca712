import type {
  BaseConfig,
  CaptureConfig,
  FenceConfig,
  HooksConfig,
  ReplicaConfig,
  ScrubConfig,
  TrimConfig,
} from "./config.ts";
import { configError } from "./config-error.ts";
import type { ConfigFile } from "./config-file.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const MINUTE_MS = 60 * 1000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

export function captureConfig(file: ConfigFile | undefined, setWal: boolean | undefined): CaptureConfig {
  const { wal, granularity, heartbeat, copyRate, maxPinned, rescan, order } = file?.values ?? {};
  const capture = {
    granularity: granularity ?? "adaptive",
    sealBytes: wal?.seal ?? 16 * MIB,
    walMaxBytes: wal?.max ?? KIB * MIB,
    heartbeatMs: heartbeat ?? 10_000,
    setWal: setWal ?? false,
    copyBytesPerSecond: copyRate,
    maxPinned: maxPinned ?? 1000,
    rescanMs: rescan ?? 10 * MINUTE_MS,
    orderMaxWaitMs: order?.maxWait ?? 30_000,
    scrub: scrubOf(file),
  };
  if (capture.sealBytes <= capture.walMaxBytes) return capture;
  throw configError(
    `${file?.where(["wal"]) ?? "wal"}: seal (${capture.sealBytes} bytes) is larger than max (${capture.walMaxBytes} bytes)`,
    "Past seal a busy WAL is checkpointed, past max it is given up for a while: make seal the smaller one.",
  );
}

export function replicaConfig(file: ConfigFile | undefined): ReplicaConfig {
  const standby = file?.values.standby;
  const given = typeof standby === "object" ? standby : undefined;
  const replica = {
    checkpointBytes: given?.checkpoint ?? 8 * MIB,
    walMaxBytes: given?.walMax ?? 256 * MIB,
    scrub: scrubOf(file),
  };
  if (replica.checkpointBytes <= replica.walMaxBytes) return replica;
  throw configError(
    `${file?.where(["standby"]) ?? "standby"}: checkpoint (${replica.checkpointBytes} bytes) is larger than walMax (${replica.walMaxBytes} bytes)`,
    "Past checkpoint the standby's WAL is emptied, past walMax applying waits for that: make checkpoint the smaller one.",
  );
}

/** `own`: of a repository; what it leaves out is as in the set. */
export function baseConfig(file: ConfigFile | undefined, own: ConfigFile["values"]["base"] = {}): BaseConfig {
  const { every, orBytes } = { ...file?.values.base, ...own };
  return { everyMs: every ?? HOUR_MS, bytes: orBytes ?? 256 * MIB };
}

export function hooksConfig(file: ConfigFile | undefined): HooksConfig {
  const { onPromote = [], onFence = [], timeout = MINUTE_MS / 2 } = file?.values.hooks ?? {};
  return { onPromote, onFence, timeoutMs: timeout };
}

export function fenceConfig(file: ConfigFile | undefined): FenceConfig {
  const given = file?.values.fence;
  const { mode = "lock", after } = typeof given === "string" ? { mode: given } : (given ?? {});
  if (mode === "hook" && hooksConfig(file).onFence.length === 0) {
    throw configError(
      `${file?.where(["fence"]) ?? "fence"}: hook leaves it to hooks.onFence to stop the application, and there is none`,
      "Give hooks: { onFence: [COMMAND] }, or fence: lock.",
    );
  }
  if (after !== undefined && mode !== "lock") {
    throw configError(
      `${file?.where(["fence", "after"]) ?? "fence.after"}: is of use with mode: lock only`,
      "What a hook stopped cannot be let go on when the log is back. Use mode: lock, or leave after: out.",
    );
  }
  return { mode, afterMs: after };
}

export function trimConfig(file: ConfigFile | undefined): TrimConfig {
  const { keep, above, verifiedIn, forget } = file?.values.trim ?? {};
  return {
    keepMs: keep ?? HOUR_MS,
    aboveBytes: above === "never" ? Infinity : (above ?? 256 * MIB),
    verifiedIn: verifiedIn === "all" ? undefined : verifiedIn,
    forgetMs: forget ?? 7 * DAY_MS,
  };
}

function scrubOf(file: ConfigFile | undefined): ScrubConfig {
  const { scrub = DAY_MS, scrubRate = 16 * MIB } = file?.values ?? {};
  return { everyMs: scrub === "off" ? undefined : scrub, bytesPerSecond: scrubRate };
}
