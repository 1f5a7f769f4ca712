import type { IncomingMessage } from "node:http";

import { errnoOf, isErrorCode, TidemarkError } from "../runtime/errors.ts";
import { http } from "../runtime/http.ts";
import { SocketPath } from "./socket-path.ts";

const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

export interface ControlRequest {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly body?: unknown;
  /** How long the answer may take. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

interface Reply {
  readonly status: number;
  readonly text: string;
}

/**
 * Asks the agent that listens in `directory`.
 *
 * @throws AGENT_NOT_RUNNING when none does, TIMEOUT, INTERRUPTED, and whatever error the agent answers with
 */
export async function askAgent(directory: string, request: ControlRequest): Promise<unknown> {
  const reply = await send(directory, request);
  const answer = parseAnswer(reply.text, directory);
  if (reply.status === 200) return answer;
  throw errorOf(answer, directory);
}

export function agentNotRunning(places: readonly string[]): TidemarkError {
  const where = places.length > 0 ? ` in ${places.join(" or ")}` : "";
  return new TidemarkError("AGENT_NOT_RUNNING", `no agent answers on a control socket${where}`, {
    hint: "Start `tidemark run` (or `capture`) on this host, or point at the running one with -c FILE, --standby DIR or --state DIR.",
  });
}

async function send(directory: string, request: ControlRequest): Promise<Reply> {
  try {
    using socket = new SocketPath(directory);
    return await exchange(socket, request);
  } catch (error) {
    throw explain(error, directory, request);
  }
}

function exchange(socket: SocketPath, { method, path, body, timeoutMs, signal }: ControlRequest): Promise<Reply> {
  const limit = AbortSignal.any([AbortSignal.timeout(timeoutMs), ...(signal ? [signal] : [])]);
  const text = body === undefined ? "" : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const asked = http.request(
      {
        socketPath: socket.address,
        method,
        path,
        signal: limit,
        agent: false,
        headers: { "content-type": "application/json", "content-length": Buffer.byteLength(text) },
      },
      (response) => {
        collect(response).then((answer) => resolve({ status: response.statusCode ?? 0, text: answer }), reject);
      },
    );
    asked.on("error", reject);
    asked.end(text);
  });
}

async function collect(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) throw new Error("the answer is too long");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function explain(error: unknown, directory: string, { timeoutMs, signal, path }: ControlRequest): unknown {
  const errno = errnoOf(error);
  if (errno === "ENOENT" || errno === "ECONNREFUSED" || errno === "ENOTDIR" || errno === "ENOTSOCK")
    return agentNotRunning([directory]);
  if (errno === "ECONNRESET" || errno === "EPIPE") {
    return new TidemarkError("AGENT_NOT_RUNNING", `the agent in ${directory} ended before it answered`, {
      hint: "See its log for why, and start it again.",
      cause: error,
    });
  }
  if (errno === "EACCES") {
    return new TidemarkError("AGENT_NOT_RUNNING", `the control socket in ${directory} is not for this user (EACCES)`, {
      hint: "Run this command as the user that runs the agent.",
      cause: error,
    });
  }
  if (!(error instanceof Error) || !/^(AbortError|TimeoutError)$/.test(error.name)) return error;
  if (signal?.aborted) {
    return new TidemarkError("INTERRUPTED", "interrupted while waiting for the agent", {
      hint: "Run the command again.",
      cause: error,
    });
  }
  return new TidemarkError("TIMEOUT", `the agent in ${directory} did not answer ${path} within ${timeoutMs} ms`, {
    hint: "`tidemark status` tells what it waits for; --timeout gives it longer.",
    cause: error,
  });
}

function parseAnswer(text: string, directory: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new TidemarkError(
      "AGENT_NOT_RUNNING",
      `what listens in ${directory} does not speak as an agent of Tidemark`,
      {
        hint: "Check that the directory is the state of a Tidemark agent of this version.",
        cause: error,
      },
    );
  }
}

function errorOf(answer: unknown, directory: string): TidemarkError {
  const { code, message, hint } = (answer ?? {}) as Readonly<Record<string, unknown>>;
  const text = typeof message === "string" ? message : `the agent in ${directory} refused`;
  const next = typeof hint === "string" ? hint : "See the agent's log.";
  return new TidemarkError(isErrorCode(code) ? code : "INTERNAL", text, { hint: next });
}
