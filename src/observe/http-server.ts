import type { IncomingMessage, Server } from "node:http";

import { errnoOf, TidemarkError } from "../runtime/errors.ts";
import { http } from "../runtime/http.ts";
import { answerSync, type HttpSync, type JsonAnswer } from "./http-sync.ts";
import { METRICS_CONTENT_TYPE, renderMetrics } from "./metrics.ts";
import type { StatusReport } from "./status-report.ts";

export interface HttpServerOptions {
  readonly host: string;
  readonly port: number;
  /** Asked at every request. */
  readonly status: () => Promise<StatusReport>;
  readonly sync: HttpSync;
}

interface Answer {
  readonly code: number;
  readonly type: string;
  readonly text: string;
}

const JSON_TYPE = "application/json";
const TEXT = "text/plain; charset=utf-8";
const json = ({ code, body }: JsonAnswer): Answer => ({ code, type: JSON_TYPE, text: `${JSON.stringify(body)}\n` });
const line = (code: number, text: string): Answer => ({ code, type: TEXT, text: `${text}\n` });

/**
 * What machines ask an agent: `/metrics`, `/healthz` (the process answers), `/readyz` (everything runs and nothing critical is
 * wrong), `/primary` and `/replica` (what it is: 200, else 503, for load balancers), and `POST /sync` for applications on this
 * host. Nothing can be changed through it.
 *
 * @throws CONFIG when the address cannot be had
 */
export async function startHttpServer(options: HttpServerOptions): Promise<AsyncDisposable> {
  const server = http.createServer({ requestTimeout: 10_000 }, (request, response) => {
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    void answer(request, options, gone.signal).then(({ code, type, text }) => {
      if (response.destroyed) return;
      response.writeHead(code, { "content-type": type, "content-length": Buffer.byteLength(text) });
      response.end(request.method === "HEAD" ? undefined : text);
    });
  });
  await listen(server, options);
  return { [Symbol.asyncDispose]: () => close(server) };
}

async function answer(
  request: IncomingMessage,
  { status, sync }: HttpServerOptions,
  signal: AbortSignal,
): Promise<Answer> {
  const { method, url = "" } = request;
  const asked = URL.parse(url, "http://agent");
  if (asked?.pathname === "/sync") return json(await answerSync(request, asked, { sync, signal }));
  if (method !== "GET" && method !== "HEAD") return line(405, "only GET and HEAD are answered here");
  try {
    return await answerTo(asked?.pathname ?? "", status);
  } catch (error) {
    return line(500, error instanceof Error ? error.message : String(error));
  }
}

async function answerTo(path: string, status: () => Promise<StatusReport>): Promise<Answer> {
  switch (path) {
    case "/healthz":
      return line(200, "ok");
    case "/metrics":
      return { code: 200, type: METRICS_CONTENT_TYPE, text: await renderMetrics(await status()) };
    case "/readyz":
      return readiness(await status());
    case "/primary":
      return (await status()).capture ? line(200, "captures") : line(503, "captures nothing");
    case "/replica":
      return (await status()).standby ? line(200, "keeps a standby") : line(503, "keeps no standby");
    default:
      return line(404, "try /metrics, /healthz, /readyz, /primary, /replica, or POST /sync");
  }
}

function readiness({ agents, alerts }: StatusReport): Answer {
  const waiting = agents.filter(({ state }) => state !== "running").map(({ role, state }) => `${role}: ${state}`);
  const critical = alerts.filter(({ severity }) => severity === "critical").map(({ message }) => message);
  const reasons = [...waiting, ...critical];
  return reasons.length === 0 ? line(200, "ok") : line(503, reasons.join("\n"));
}

function listen(server: Server, { host, port }: HttpServerOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error) => reject(notHad(error, `${host}:${port}`)));
    server.listen({ host, port }, resolve);
  });
}

function notHad(error: Error, address: string): TidemarkError {
  return new TidemarkError(
    "CONFIG",
    `http.listen: ${address} cannot be listened on (${errnoOf(error) ?? error.message})`,
    {
      hint: "Name an address of this host and a port that is free; each agent of a host needs a port of its own.",
      cause: error,
    },
  );
}

async function close(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeAllConnections();
  await closed;
}
