import fs from "node:fs";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import net from "node:net";

import { makeDirectory } from "../runtime/durable-directory.ts";
import { errnoOf, TidemarkError, toTidemarkError } from "../runtime/errors.ts";
import { http } from "../runtime/http.ts";
import { SocketPath } from "./socket-path.ts";

const MAX_BODY_BYTES = 64 * 1024;

/** Answers one request. `body` is the parsed JSON, {} when there was none. What it throws is answered as an error. */
export type ControlHandler = (body: Readonly<Record<string, unknown>>, signal: AbortSignal) => Promise<unknown>;

export interface ControlServerOptions {
  /** Where `control.sock` is made. The directory is made too when it is missing. */
  readonly directory: string;
  /** By method and path: `GET /status`. */
  readonly handlers: Readonly<Record<string, ControlHandler>>;
}

/**
 * HTTP on a unix socket that only its owner may use. One agent a directory: the socket of one that was killed is replaced,
 * that of a living one is not.
 *
 * @throws AGENT_RUNNING
 */
export async function startControlServer(options: ControlServerOptions): Promise<AsyncDisposable> {
  const { directory, handlers } = options;
  makeDirectory(directory, { mode: 0o700 });
  const socket = new SocketPath(directory);
  try {
    await removeStale(socket);
    const closing = new AbortController();
    const server = http.createServer({ requestTimeout: 10_000 }, (request, response) => {
      void answer(request, response, { handlers, signal: closing.signal });
    });
    await listen(server, socket);
    fs.chmodSync(socket.file, 0o600);
    return { [Symbol.asyncDispose]: () => close(server, { socket, closing }) };
  } catch (error) {
    socket[Symbol.dispose]();
    throw errnoOf(error) === "EADDRINUSE" ? agentRunning(socket) : error;
  }
}

function agentRunning(socket: SocketPath): TidemarkError {
  return new TidemarkError("AGENT_RUNNING", `another agent is running and listens on ${socket.file}`, {
    hint: "One agent works on a set. `tidemark status` shows it; stop it before starting this one, or give this one its own set and --state.",
  });
}

/** A killed agent leaves its socket behind: nobody accepts on it. Only then may it go. */
async function removeStale(socket: SocketPath): Promise<void> {
  const errno = await tryConnect(socket.address);
  if (errno === undefined) throw agentRunning(socket);
  if (errno === "ECONNREFUSED" || errno === "ENOTSOCK") fs.rmSync(socket.file, { force: true });
}

function tryConnect(address: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const connection = net.connect(address);
    connection.once("connect", () => {
      connection.destroy();
      resolve(undefined);
    });
    connection.once("error", (error) => resolve(errnoOf(error) ?? "UNKNOWN"));
  });
}

function listen(server: Server, socket: SocketPath): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(socket.address, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

async function close(server: Server, parts: { socket: SocketPath; closing: AbortController }): Promise<void> {
  parts.closing.abort();
  // Those who wait get their answer (interrupted) on this turn of the loop; then nobody is waited for.
  await new Promise(setImmediate);
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  await new Promise(setImmediate);
  server.closeAllConnections();
  await closed;
  parts.socket[Symbol.dispose]();
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  { handlers, signal }: { handlers: ControlServerOptions["handlers"]; signal: AbortSignal },
): Promise<void> {
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  try {
    const handler = handlers[`${request.method ?? ""} ${request.url ?? ""}`];
    if (!handler) throw unknownRequest(request);
    const body = await readBody(request);
    reply(response, 200, await handler(body, AbortSignal.any([signal, gone.signal])));
  } catch (error) {
    const { code, message, hint } = toTidemarkError(error);
    reply(response, code === "USAGE" ? 400 : 409, { ok: false, code, message, hint });
  }
}

function unknownRequest(request: IncomingMessage): TidemarkError {
  return new TidemarkError(
    "USAGE",
    `this agent has no answer to ${request.method ?? ""} ${(request.url ?? "").slice(0, 100)}`,
    {
      hint: "Use the same version of Tidemark for the agent and the command line.",
    },
  );
}

async function readBody(request: IncomingMessage): Promise<Record<string, unknown>> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) throw badBody(`is longer than ${MAX_BODY_BYTES} bytes`);
    chunks.push(chunk);
  }
  if (bytes === 0) return {};
  try {
    const parsed = JSON.parse(Buffer.concat(chunks).toString("utf8")) as unknown;
    if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed))
      return parsed as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw badBody("is no JSON object");
}

function badBody(what: string): TidemarkError {
  return new TidemarkError("USAGE", `the request's body ${what}`, {
    hint: "Use the command line, or send a JSON object.",
  });
}

function reply(response: ServerResponse, status: number, value: unknown): void {
  if (response.destroyed || response.headersSent) return;
  const text = `${JSON.stringify(value)}\n`;
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
    connection: "close",
  });
  response.end(text);
}
