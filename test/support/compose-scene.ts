import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { parse } from "yaml";

import { freePort } from "./nats-server.ts";
import { Process } from "./processes.ts";
import { S3Bucket } from "./s3-server.ts";

const ROOT = path.resolve(import.meta.dirname, "../..");
const IMAGE_DIRECTORIES = ["/srv/app", "/srv/standby", "/var/lib/tidemark", "/etc/tidemark", "/etc/nats", "/data"];
const PORTS = [4222, 6222, 8222];
const SERVERS = ["nats-1", "nats-2", "nats-3"];

export interface Service {
  readonly image: string;
  readonly build?: unknown;
  readonly command?: readonly string[];
  readonly entrypoint?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly volumes?: readonly string[];
  /** A list, or by name with their options. */
  readonly networks?: readonly string[] | Readonly<Record<string, unknown>>;
  readonly restart?: string;
  readonly stop_grace_period?: string;
  readonly mem_limit?: string;
  readonly cpus?: number;
  readonly pids_limit?: number;
  readonly logging?: unknown;
  readonly healthcheck?: { readonly test?: readonly string[] };
}

/** `.env.example` with every secret filled in as it tells. */
export function filledEnvironment(): string {
  const example = fs.readFileSync(path.join(ROOT, ".env.example"), "utf8");
  let last = 0;
  return example.replaceAll(/^(\w+)=$/gm, (_line, name: string) => `${name}=p${1234567890 + ++last}e5`);
}

/** `docker-compose config` on docker-compose.yml and an environment file of this content. */
export function composeConfig(environment: string): { code: number | null; stdout: string; stderr: string } {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-compose-"));
  try {
    const file = path.join(directory, "env");
    fs.writeFileSync(file, environment);
    const args = ["--env-file", file, "-f", path.join(ROOT, "docker-compose.yml"), "config"];
    const { status, stdout, stderr } = spawnSync("docker-compose", args, { encoding: "utf8" });
    return { code: status, stdout, stderr };
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
}

export function composeServices(): Record<string, Service> {
  const { code, stdout, stderr } = composeConfig(filledEnvironment());
  if (code !== 0) throw new Error(`docker-compose config ended with ${code}: ${stderr}`);
  return (parse(stdout) as { services: Record<string, Service> }).services;
}

/** The services of docker-compose.yml as processes of this machine: each in a directory that stands for its container's root. */
export class ComposeScene implements AsyncDisposable {
  readonly services = composeServices();
  readonly directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-compose-"));
  /** That of the service s3, in the one that the tests share. */
  readonly bucket: S3Bucket;
  /** By `nats-1:4222`. */
  readonly #ports = new Map<string, number>();
  readonly #processes = new Map<string, Process>();

  private constructor(bucket: S3Bucket) {
    this.bucket = bucket;
  }

  static async create(): Promise<ComposeScene> {
    const scene = new ComposeScene(await S3Bucket.make("plain", "tidemark"));
    for (const server of SERVERS) {
      for (const port of PORTS) scene.#ports.set(`${server}:${port}`, await freePort());
    }
    scene.#ports.set("s3:9000", Number(new URL(scene.bucket.place.endpoint ?? "").port));
    scene.#buildImage();
    return scene;
  }

  /** Where a container's path lies here. */
  place(inContainer: string, service = "agents"): string {
    return path.join(this.directory, service, inContainer);
  }

  start(name: string): Process {
    const service = this.services[name];
    if (!service) throw new Error(`no service ${name}`);
    const [program = "", ...args] = this.#commandOf(name, service);
    const started = new Process(program, args, this.#options(name, service));
    this.#processes.set(name, started);
    return started;
  }

  /** What the image's HEALTHCHECK says, in the place of `name`. */
  health(name: string): number | null {
    const [, command = ""] = /^HEALTHCHECK .*CMD (\[.*\])$/m.exec(fs.readFileSync(`${ROOT}/Dockerfile`, "utf8")) ?? [];
    const [program = "", ...args] = this.#resolve(JSON.parse(command) as string[], name);
    return spawnSync(program, args, this.#options(name, this.services[name] ?? { image: "" })).status;
  }

  /** The end of what each service said, for the message of a test that fails. */
  outputs(): string {
    const said = ([name, { output, errors }]: [string, Process]): string =>
      `${name}: ${output.slice(-1000)}\n${errors.slice(-3000)}`;
    return [...this.#processes].map(said).join("\n\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const running of this.#processes.values()) await running.kill();
    fs.rmSync(this.directory, { recursive: true, force: true });
  }

  /** The commands of the Dockerfile, with this checkout's packages in the place of `npm ci`. */
  #buildImage(): void {
    for (const directory of IMAGE_DIRECTORIES) fs.mkdirSync(this.place(directory), { recursive: true });
    const image = this.place("/opt/tidemark");
    fs.mkdirSync(image, { recursive: true });
    const tsc = path.join(ROOT, "node_modules/.bin/tsc");
    execFileSync(tsc, ["-p", "tsconfig.build.json", "--outDir", path.join(image, "dist")], { cwd: ROOT });
    fs.symlinkSync(path.join(ROOT, "node_modules"), path.join(image, "node_modules"));
    for (const one of ["package.json", "sample"]) {
      fs.cpSync(path.join(ROOT, one), path.join(image, one), { recursive: true });
    }
  }

  #commandOf(name: string, { entrypoint = ["tidemark"], command = [], image }: Service): string[] {
    return this.#resolve(image === "tidemark" ? [...entrypoint, ...command] : command, name);
  }

  #resolve(command: readonly string[], name: string): string[] {
    const [program = "", ...args] = command;
    const main = this.place("/opt/tidemark/dist/cli/main.js");
    const programs: Record<string, string[]> = { tidemark: [process.execPath, main], node: [process.execPath] };
    const translated = args.map((arg) => this.#translate(arg, name));
    return [...(programs[program] ?? [program]), ...translated];
  }

  #options(name: string, { environment, volumes = [] }: Service) {
    for (const volume of volumes) this.#mountFile(volume, name);
    const store = environment && "AWS_ACCESS_KEY_ID" in environment ? this.bucket.env : {};
    const variables = { PATH: process.env["PATH"] ?? "", NODE_NO_WARNINGS: "1", ...environment, ...store };
    return { env: variables, cwd: this.place("/etc/tidemark") };
  }

  /** A single file that a service gets from the checkout; ports and paths changed to this machine's. */
  #mountFile(volume: string, name: string): void {
    const [from = "", to = ""] = volume.split(":");
    if (!from.startsWith("/")) return;
    const placed = this.place(to, SERVERS.includes(name) ? name : "agents");
    fs.mkdirSync(path.dirname(placed), { recursive: true });
    fs.writeFileSync(placed, this.#translate(fs.readFileSync(from, "utf8"), name));
  }

  #translate(text: string, name: string): string {
    const own = SERVERS.includes(name) ? name : "agents";
    let translated = text;
    for (const [address, port] of this.#ports) {
      translated = translated.replaceAll(address, `127.0.0.1:${port}`);
      const [server, number = ""] = address.split(":");
      if (server === name) translated = translated.replaceAll(new RegExp(`port: ${number}\\b`, "g"), `port: ${port}`);
    }
    const paths = /(?<![\w/])\/(srv|var\/lib\/tidemark|etc|data|opt\/tidemark)\b/g;
    return translated.replaceAll(paths, (found) => this.place(found, own));
  }
}
