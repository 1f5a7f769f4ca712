import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { sleep } from "../../src/runtime/clock.ts";

/** A network that misbehaves on demand, between a client and a server on 127.0.0.1. */
export class TcpProxy implements AsyncDisposable {
  /** What the server says is dropped: the request arrives, its answer never does. */
  swallowAnswers = false;
  /** New connections are closed at once. */
  refuse = false;
  /** Delay of everything the server says. */
  answerDelayMs = 0;
  /** Bytes a second from the client to the server; 0 = as they come. */
  uploadBytesPerSecond = 0;
  /** What the client sends is kept, and delivered when this ends, even when the client is gone by then. */
  holdUploads = false;
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

  async [Symbol.asyncDispose](): Promise<void> {
    this.refuse = true;
    this.holdUploads = false;
    this.cut();
    this.#server.close();
    await once(this.#server, "close");
  }

  #accept(client: Socket): void {
    if (this.refuse) return void client.destroy();
    const server = connect(this.#target, "127.0.0.1");
    const pair = [client, server] as const;
    this.#pairs.add(pair);
    const end = (): void => {
      if (this.holdUploads) return;
      this.#pairs.delete(pair);
      for (const socket of pair) socket.destroy();
    };
    for (const socket of pair) socket.setNoDelay(true).on("error", end).on("close", end);
    void this.#forward(client, server, (bytes) => this.#upload(bytes));
    void this.#forward(server, client, (bytes) => this.#answer(bytes));
  }

  async #forward(from: Socket, to: Socket, pass: (bytes: number) => Promise<boolean>): Promise<void> {
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        if ((await pass(chunk.length)) && !to.write(chunk)) await once(to, "drain");
      }
    } catch {
      // A cut is what this is for.
    }
    // Only after what was written is delivered.
    to.end();
  }

  async #upload(bytes: number): Promise<boolean> {
    if (this.uploadBytesPerSecond > 0) await sleep((bytes / this.uploadBytesPerSecond) * 1000);
    while (this.holdUploads) await sleep(5);
    this.uploaded += bytes;
    return true;
  }

  async #answer(bytes: number): Promise<boolean> {
    this.downloaded += bytes;
    if (this.answerDelayMs > 0) await sleep(this.answerDelayMs);
    return !this.swallowAnswers;
  }
}
