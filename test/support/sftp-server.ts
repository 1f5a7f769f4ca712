import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import { connect } from "node:net";
import os from "node:os";
import path from "node:path";

import type { SftpPlace } from "../../src/config/config.ts";
import { errnoOf } from "../../src/runtime/errors.ts";
import { freePort } from "./nats-server.ts";
import { asRoot } from "./small-disk.ts";
import { waitFor } from "./wait.ts";

const SSHD = "/usr/sbin/sshd";

/** A real sshd on a free port of 127.0.0.1, with a host key, a user's key and a directory of its own. */
export class SftpServer implements AsyncDisposable {
  readonly directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-sftp-"));
  readonly place: SftpPlace;
  #process: ReturnType<typeof spawn> | undefined;

  private constructor(port: number, options: string) {
    for (const key of ["host_key", "user_key"]) this.makeKey(key);
    fs.writeFileSync(this.at("known_hosts"), `[127.0.0.1]:${port} ${fs.readFileSync(this.at("host_key.pub"), "utf8")}`);
    fs.copyFileSync(this.at("user_key.pub"), this.at("authorized_keys"));
    fs.writeFileSync(this.at("sshd_config"), this.#config(port, options).join("\n"));
    fs.mkdirSync(this.at("served"));
    const user = os.userInfo().username;
    const [keyFile, knownHosts] = [this.at("user_key"), this.at("known_hosts")];
    const host = { host: "127.0.0.1", port, user, hostKey: undefined };
    this.place = { kind: "sftp", ...host, directory: this.at("served"), keyFile, knownHosts };
  }

  /** `options`: of sftp-server(8). */
  static async start(options = ""): Promise<SftpServer> {
    const server = new SftpServer(await freePort(), options);
    await server.start();
    return server;
  }

  /** For a configuration or `--repository`. */
  get url(): string {
    const { host, port, user, directory, keyFile = "" } = this.place;
    const query = new URLSearchParams({ keyFile, hostKey: this.fingerprint });
    return `sftp://${user}@${host}:${port}${directory}?${query.toString()}`;
  }

  /** As `hostKey` takes it. */
  get fingerprint(): string {
    const line = execFileSync("ssh-keygen", ["-lf", this.at("host_key.pub")], { encoding: "utf8" });
    return line.split(" ")[1] ?? "";
  }

  at(name: string): string {
    return path.join(this.directory, name);
  }

  makeKey(name: string, passphrase = ""): void {
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", passphrase, "-f", this.at(name)]);
  }

  async start(): Promise<void> {
    // What Debian's service makes before it starts sshd.
    if (process.getuid?.() === 0) fs.mkdirSync("/run/sshd", { recursive: true, mode: 0o755 });
    this.#process = spawn(SSHD, ["-D", "-E", this.at("log"), "-f", this.at("sshd_config")], { stdio: "ignore" });
    await waitFor("sshd", async () => await greets(this.place.port), { timeoutMs: 20_000 });
  }

  /** With all its connections. */
  async kill(): Promise<void> {
    const running = this.#process;
    if (!running || running.exitCode !== null || running.signalCode !== null) return;
    const exited = once(running, "exit");
    this.cut();
    running.kill("SIGKILL");
    await exited;
  }

  /** Ends the connections; new ones are served. */
  cut(): void {
    const { pid } = this.#process ?? {};
    const children = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ");
    for (const child of children.filter((text) => text !== "")) {
      try {
        process.kill(Number(child), "SIGKILL");
      } catch (error) {
        // It ended by itself meanwhile.
        if (errnoOf(error) !== "ESRCH") throw error;
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    fs.rmSync(this.directory, { recursive: true, force: true });
  }

  #config(port: number, options: string): string[] {
    return [
      `Port ${port}`,
      "ListenAddress 127.0.0.1",
      `HostKey ${this.at("host_key")}`,
      `AuthorizedKeysFile ${this.at("authorized_keys")}`,
      "PidFile none",
      "UsePAM no",
      "PasswordAuthentication no",
      // The directory is below one that everybody may write to.
      "StrictModes no",
      "MaxStartups 100",
      `Subsystem sftp internal-sftp ${options}`,
      "",
    ];
  }
}

/** Another sshd beside a server's own, which lets the server's user in by a password alone. */
export class PasswordServer implements AsyncDisposable {
  readonly place: SftpPlace;
  readonly #pidFile: string;

  private constructor(server: SftpServer, port: number) {
    this.#pidFile = server.at("password.pid");
    const { knownHosts: _, keyFile: __, ...place } = server.place;
    this.place = { ...place, port, hostKey: server.fingerprint, keyFile: undefined, knownHosts: undefined };
  }

  static async start(server: SftpServer, password: string): Promise<PasswordServer> {
    const port = await freePort();
    const started = new PasswordServer(server, port);
    const hash = execFileSync("openssl", ["passwd", "-6", "-stdin"], { input: password, encoding: "utf8" }).trim();
    const [shadow, config] = [server.at("shadow"), server.at("password_config")];
    fs.writeFileSync(shadow, `${os.userInfo().username}:${hash}:20000:0:99999:7:::\n`);
    const ways = ["PasswordAuthentication yes", "PermitRootLogin yes", "PubkeyAuthentication no"];
    const files = [`HostKey ${server.at("host_key")}`, `PidFile ${started.#pidFile}`];
    const lines = [`Port ${port}`, "ListenAddress 127.0.0.1", "UsePAM no", "Subsystem sftp internal-sftp"];
    fs.writeFileSync(config, [...lines, ...files, ...ways, ""].join("\n"));
    // The machine's own passwords are not touched: only this sshd sees others.
    const script = 'mount --bind "$0" /etc/shadow && exec /usr/sbin/sshd -f "$1" -E "$2"';
    asRoot("unshare", "--mount", "sh", "-c", script, shadow, config, server.at("password.log"));
    await waitFor("sshd", async () => await greets(port), { timeoutMs: 20_000 });
    return started;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    asRoot("kill", "-KILL", fs.readFileSync(this.#pidFile, "utf8").trim());
  }
}

async function greets(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "data");
    return true;
  } finally {
    socket.destroy();
  }
}
