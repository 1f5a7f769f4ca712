import { configError } from "./config-error.ts";

export interface HttpConfig {
  readonly host: string;
  readonly port: number;
}

/** `127.0.0.1:9470`, `[::1]:9470`, `host:9470`. @throws CONFIG */
export function parseListen(text: string, where: string): HttpConfig {
  const [, bracketed, plain, digits] = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/.exec(text.trim()) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  if (host !== undefined && port >= 1 && port <= 65_535) return { host, port };
  throw configError(
    `${where}: ${JSON.stringify(text)} is no address to listen on`,
    "Write for instance 127.0.0.1:9470.",
  );
}

/** Whether only this host reaches it. */
export function isLoopback({ host }: HttpConfig): boolean {
  return host === "localhost" || host === "::1" || host.startsWith("127.");
}
