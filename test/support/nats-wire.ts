/** A message in the NATS protocol: MSG and HMSG from the server, PUB and HPUB from a client. */
export interface WireMessage {
  readonly verb: string;
  readonly subject: string;
  /** Of the server's: the subscription it goes to. */
  readonly sid: string | undefined;
  readonly reply: string | undefined;
  /** `NATS/1.0 …` to the empty line; empty when there are none. */
  readonly headers: string;
  readonly payload: Buffer;
}

const CRLF = "\r\n";

/** Cuts a stream of protocol bytes into messages and, as they are, lines of other kinds. */
export class WireReader {
  #rest = Buffer.alloc(0);

  push(chunk: Buffer): (WireMessage | Buffer)[] {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    const found: (WireMessage | Buffer)[] = [];
    for (let next = this.#next(); next; next = this.#next()) found.push(next);
    return found;
  }

  #next(): WireMessage | Buffer | undefined {
    const end = this.#rest.indexOf(CRLF);
    if (end < 0) return undefined;
    const [verb = "", subject = "", ...others] = this.#rest.toString("latin1", 0, end).split(" ");
    if (!/^H?(MSG|PUB)$/i.test(verb)) return this.#take(end + 2);
    const total = Number(others.pop());
    const headerBytes = /^H/i.test(verb) ? Number(others.pop()) : 0;
    const bodyStart = end + 2;
    if (this.#rest.length < bodyStart + total + 2) return undefined;
    const body = this.#take(bodyStart + total + 2).subarray(bodyStart, bodyStart + total);
    const sid = /MSG$/i.test(verb) ? others.shift() : undefined;
    const headers = body.toString("latin1", 0, headerBytes);
    return { verb: verb.toUpperCase(), subject, sid, reply: others[0], headers, payload: body.subarray(headerBytes) };
  }

  #take(bytes: number): Buffer {
    const taken = this.#rest.subarray(0, bytes);
    this.#rest = this.#rest.subarray(bytes);
    return taken;
  }
}

/** The server's message as it goes over the wire. */
export function encodeAnswer({ subject, sid = "", reply, headers, payload }: WireMessage): Buffer {
  const sizes = headers === "" ? [payload.length] : [headers.length, headers.length + payload.length];
  const line = [headers === "" ? "MSG" : "HMSG", subject, sid, ...(reply === undefined ? [] : [reply]), ...sizes].join(
    " ",
  );
  return Buffer.concat([Buffer.from(line + CRLF + headers, "latin1"), payload, Buffer.from(CRLF)]);
}

export type Rewrite = (message: WireMessage) => WireMessage | Promise<WireMessage>;

/** For TcpProxy.rewriteAnswers: every message of the server's goes through `rewrite`, its greeting through `greet`. */
export function rewriting(
  rewrite: Rewrite,
  greet = (info: string): string => info,
): () => (chunk: Buffer) => Promise<Buffer> {
  return () => {
    const reader = new WireReader();
    return async (chunk) => {
      const passed: Buffer[] = [];
      for (const part of reader.push(chunk)) {
        if (!Buffer.isBuffer(part)) passed.push(encodeAnswer(await rewrite(part)));
        else if (part.toString("latin1", 0, 5) === "INFO ") passed.push(Buffer.from(greet(part.toString())));
        else passed.push(part);
      }
      return Buffer.concat(passed);
    };
  };
}
