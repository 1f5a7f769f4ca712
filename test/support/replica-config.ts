import type { ReplicaConfig } from "../../src/config/config.ts";

const MIB = 1024 * 1024;

/** Pages are compared after each start only. */
export const REPLICA_CONFIG: ReplicaConfig = {
  checkpointBytes: 4 * MIB,
  walMaxBytes: 64 * MIB,
  scrub: { everyMs: undefined, bytesPerSecond: 64 * MIB },
};
