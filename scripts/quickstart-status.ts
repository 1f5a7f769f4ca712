/** What a running agent says of itself on its control socket: the same JSON as `tidemark status --json`. */
import { askAgent } from "../src/observe/control-client.ts";

export interface Status {
  readonly capture: { readonly offset: number; readonly lagMs: number } | null;
  readonly standby: {
    readonly offset: number;
    readonly lagEvents: number;
    /** After every event so far the standby's checksum equalled the one in the log. */
    readonly verified: boolean;
  } | null;
}

/** Undefined while the agent does not answer, as at its start. */
export async function readStatus(stateDirectory: string): Promise<Status | undefined> {
  try {
    return (await askAgent(stateDirectory, { method: "GET", path: "/status", timeoutMs: 2_000 })) as Status;
  } catch {
    return undefined;
  }
}
