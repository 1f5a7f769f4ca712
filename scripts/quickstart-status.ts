/** What a running agent says of itself on its control socket: the same JSON as `tidemark status --json`. */
import { request } from "node:http";

export interface Status {
  readonly log: { readonly last: number } | null;
  readonly capture: { readonly offset: number; readonly lagMs: number } | null;
  readonly standby: {
    readonly offset: number;
    readonly lagMs: number;
    readonly lagEvents: number;
    /** After every event so far the standby's checksum equalled the one in the log. */
    readonly verified: boolean;
  } | null;
}

function get(socketPath: string, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, timeout: 2_000 }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => resolve(Buffer.concat(chunks).toString("utf8")));
      response.on("error", reject);
    });
    asked.on("timeout", () => asked.destroy(new Error("the agent does not answer")));
    asked.on("error", reject);
    asked.end();
  });
}

/** Undefined while the agent does not answer, as at its start. */
export async function readStatus(socketPath: string): Promise<Status | undefined> {
  try {
    return JSON.parse(await get(socketPath, "/status")) as Status;
  } catch {
    return undefined;
  }
}
