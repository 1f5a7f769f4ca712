import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { sleep } from "../../src/runtime/clock.ts";

/** A network that misbehaves on demand, between a client and a server on 127.0.0.1. */
export class TcpProxy implements AsyncDisposable {
  /** What the server says is dropped: the request arrives, its answer never does. */
  swallowAnswers = false;
  /** New connections are closed at once. */
  refuse = false;
  refused = 0;
  /** Delay of everything the server says. */
  answerDelayMs = 0;
  /** Bytes a second from the client to the server; 0 = as they come. */
  uploadBytesPerSecond = 0;
  /** What the client sends is kept, and delivered when this ends, even when the client is gone by then. */
  holdUploads = false;
  /** Sees what clients send. */
  onUpload: ((chunk: Buffer) => void) | undefined;
  /** Made for each connection: what becomes of what the server says. */
  rewriteAnswers: (() => (chunk: Buffer) => Buffer | Promise<Buffer>) | undefined;
  /** Bytes that uploads hold back. */
  waiting = 0;
  /** Bytes that went to the server, and that it sent. */
  uploaded = 0;
  downloaded = 0;
  readonly #server: Server;
  readonly #target: number;
  readonly #pairs = new Set<readonly [Socket, Socket]>();

  private constructor(target: number) {
    this.#target = target;
    this.#server = createServer((client) => this.#accept(client));
  }

  static async start(target: number): Promise<TcpProxy> {
    const proxy = new TcpProxy(target);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get address(): string {
    const address = this.#server.address();
    if (typeof address !== "object" || !address) throw new Error("not listening");
    return `127.0.0.1:${address.port}`;
  }

  /** Cuts every connection there is. */
  cut(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  /** Clients lose their connections; what they sent is still delivered. */
  cutClients(): void {
    for (const [client] of this.#pairs) client.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.refuse = true;
    this.holdUploads = false;
    this.cut();
    this.#server.close();
    await once(this.#server, "close");
  }

  #accept(client: Socket): void {
    if (this.refuse) {
      this.refused += 1;
      return void client.destroy();
    }
    const server = connect(this.#target, "127.0.0.1");
    const pair = [client, server] as const;
    this.#pairs.add(pair);
    const end = (): void => {
      if (this.holdUploads) return;
      this.#pairs.delete(pair);
      for (const socket of pair) socket.destroy();
    };
    for (const socket of pair) socket.setNoDelay(true).on("error", end).on("close", end);
    const rewrite = this.rewriteAnswers?.() ?? ((chunk: Buffer) => chunk);
    void this.#forward(client, server, (chunk) => this.#upload(chunk));
    void this.#forward(server, client, async (chunk) => this.#answer(await rewrite(chunk)));
  }

  async #forward(from: Socket, to: Socket, pass: (chunk: Buffer) => Promise<Buffer>): Promise<void> {
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        const passed = await pass(chunk);
        if (passed.length > 0 && !to.write(passed)) await once(to, "drain");
      }
    } catch {
      // A cut is what this is for.
    }
    // Only after what was written is delivered.
    to.end();
  }

  async #upload(chunk: Buffer): Promise<Buffer> {
    if (this.uploadBytesPerSecond > 0) await sleep((chunk.length / this.uploadBytesPerSecond) * 1000);
    this.waiting += chunk.length;
    while (this.holdUploads) await sleep(5);
    this.waiting -= chunk.length;
    this.uploaded += chunk.length;
    this.onUpload?.(chunk);
    return chunk;
  }

  async #answer(chunk: Buffer): Promise<Buffer> {
    this.downloaded += chunk.length;
    if (this.answerDelayMs > 0) await sleep(this.answerDelayMs);
    return this.swallowAnswers ? Buffer.alloc(0) : chunk;
  }
}
