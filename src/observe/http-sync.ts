import type { IncomingMessage } from "node:http";

import { formatDuration, parseDuration } from "../config/units.ts";
import { TidemarkError, toTidemarkError } from "../runtime/errors.ts";
import { requireCount, type SyncReport, type SyncRequest } from "./sync-control.ts";

const DEFAULT_TIMEOUT_MS = 60_000;
const LONGEST_MS = 60 * 60 * 1000;

/** As the agent answers on its control socket. */
export type HttpSync = (request: SyncRequest, signal: AbortSignal) => Promise<SyncReport>;

export interface JsonAnswer {
  readonly code: number;
  readonly body: unknown;
}

/** `POST /sync?applied=N&timeout=10s`, for applications on this host. */
export async function answerSync(
  { method, socket }: IncomingMessage,
  url: URL,
  { sync, signal }: { readonly sync: HttpSync; readonly signal: AbortSignal },
): Promise<JsonAnswer> {
  try {
    if (method !== "POST") return { code: 405, body: refusal(usage("/sync is asked with POST")) };
    // Each request has the log say something: not for strangers.
    if (!isLocal(socket.remoteAddress)) return { code: 403, body: refusal(notLocal()) };
    return { code: 200, body: await sync(requestOf(url.searchParams), signal) };
  } catch (thrown) {
    const error = toTidemarkError(thrown);
    return { code: statusOf(error), body: refusal(error) };
  }
}

function requestOf(parameters: URLSearchParams): SyncRequest {
  const applied = parameters.get("applied");
  const timeout = parameters.get("timeout");
  const timeoutMs = timeout === null ? DEFAULT_TIMEOUT_MS : parseDuration(timeout);
  if (timeoutMs === undefined || timeoutMs <= 0 || timeoutMs > LONGEST_MS)
    throw usage(`timeout is ${JSON.stringify(timeout)}, and must be a duration up to ${formatDuration(LONGEST_MS)}`);
  return { offset: undefined, applied: applied === null ? false : requireCount(Number(applied || 1)), timeoutMs };
}

function isLocal(address = ""): boolean {
  return address === "::1" || address.replace(/^::ffff:/, "").startsWith("127.");
}

function statusOf({ code }: TidemarkError): number {
  if (code === "USAGE") return 400;
  return code === "TIMEOUT" ? 504 : 503;
}

function refusal({ code, message, hint }: TidemarkError): unknown {
  return { ok: false, code, message, hint };
}

function usage(message: string): TidemarkError {
  return new TidemarkError("USAGE", message, { hint: "For instance: POST /sync?applied=1&timeout=10s" });
}

function notLocal(): TidemarkError {
  return new TidemarkError("USAGE", "/sync is answered to applications on the agent's own host", {
    hint: "Ask 127.0.0.1 there.",
  });
}
