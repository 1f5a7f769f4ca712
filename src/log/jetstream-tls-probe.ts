import type { TlsOptions } from "@nats-io/transport-node";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect as connectTcp } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";

/**
 * Under TLS 1.3 a server refuses a client certificate after the client took the handshake for done. The client library
 * then tries on in silence until its time is over, so this goes as far by hand and gives the server's alert, or undefined
 * when there was none.
 */
export async function tlsAlert(server: string, tls: TlsOptions, timeoutMs: number): Promise<Error | undefined> {
  const { hostname, port } = new URL(`tcp://${server}`);
  const signal = AbortSignal.timeout(timeoutMs);
  const plain = connectTcp({ host: hostname.replace(/^\[(.*)\]$/, "$1"), port: Number(port), signal });
  // Aborting destroys the socket with an error of its own.
  plain.on("error", () => undefined);
  let secure: TLSSocket | undefined;
  try {
    const [greeting] = (await once(plain, "data", { signal })) as [Buffer];
    if (!/"tls_(required|available)":true/.test(greeting.toString())) return undefined;
    secure = connectTls({ socket: plain, ...pemOf(tls), rejectUnauthorized: false });
    secure.write("PING\r\n");
    // Whatever it says, it says it over TLS that both sides agreed on.
    await once(secure, "data", { signal });
    return undefined;
  } catch (error) {
    return error instanceof Error && !signal.aborted ? error : undefined;
  } finally {
    secure?.on("error", () => undefined).destroy();
    plain.destroy();
  }
}

function pemOf({ caFile, certFile, keyFile }: TlsOptions): Record<string, Buffer> {
  const named = Object.entries({ ca: caFile, cert: certFile, key: keyFile });
  return Object.fromEntries(named.flatMap(([name, path]) => (path === undefined ? [] : [[name, readFileSync(path)]])));
}
