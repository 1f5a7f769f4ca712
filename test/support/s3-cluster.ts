import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import { freePort } from "./nats-server.ts";
import { waitFor } from "./wait.ts";

export const S3_HOST = "s3.test";
export const S3_KMS_KEY = "backups";
export const S3_KEYS = { accessKeyId: "tidemark", secretAccessKey: "tidemark-secret" };

/** Ceph's S3 service: one monitor, one OSD that keeps objects in memory, one gateway. */
export class S3Cluster {
  readonly endpoint: string;
  readonly #directory: string;
  readonly #config: string;
  readonly #id = randomUUID();
  readonly #monitor: string;
  #processes: ChildProcess[] = [];

  private constructor(directory: string, ports: { gateway: number; monitor: number }) {
    this.#directory = directory;
    this.#config = path.join(directory, "ceph.conf");
    this.endpoint = `http://127.0.0.1:${ports.gateway}`;
    this.#monitor = `[v2:127.0.0.1:${ports.monitor}]`;
    const lines = [...SETTINGS, `fsid = ${this.#id}`, `mon_host = ${this.#monitor}`, ...places(directory)];
    const gateway = ["[client.rgw.a]", `rgw_frontends = beast endpoint=127.0.0.1:${ports.gateway}`];
    fs.writeFileSync(this.#config, [...lines, ...gateway, ""].join("\n"));
  }

  /** In an empty directory. Takes some seconds. */
  static async start(directory: string): Promise<S3Cluster> {
    const cluster = new S3Cluster(directory, { gateway: await freePort(), monitor: await freePort() });
    try {
      await cluster.#start();
      return cluster;
    } catch (error) {
      cluster.stop();
      throw error;
    }
  }

  stop(): void {
    for (const running of this.#processes) running.kill("SIGKILL");
    this.#processes = [];
  }

  async #start(): Promise<void> {
    const map = path.join(this.#directory, "monmap");
    this.#run("monmaptool", "--create", "--addv", "a", this.#monitor, "--fsid", this.#id, map);
    this.#run("ceph-mon", "--mkfs", "-i", "a", "--monmap", map);
    this.#daemon("ceph-mon", "-i", "a");
    const id = randomUUID();
    this.#run("ceph", "osd", "new", id);
    this.#run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", id);
    this.#daemon("ceph-osd", "-i", "0");
    this.#daemon("radosgw", "-n", "client.rgw.a");
    const { accessKeyId, secretAccessKey } = S3_KEYS;
    const keys = ["--access-key", accessKeyId, "--secret-key", secretAccessKey];
    const user = ["user", "create", "--uid", "tidemark", "--display-name", "tidemark", ...keys];
    this.#run("radosgw-admin", "-n", "client.rgw.a", ...user);
    await waitFor("the S3 gateway", async () => (await fetch(this.endpoint)).ok, { timeoutMs: 45_000, everyMs: 50 });
  }

  #run(program: string, ...args: string[]): void {
    execFileSync(program, program === "monmaptool" ? args : ["-c", this.#config, ...args], {
      stdio: "pipe",
      timeout: 45_000,
    });
  }

  #daemon(program: string, ...args: string[]): void {
    this.#processes.push(
      spawn(program, ["-c", this.#config, "-f", ...args], { stdio: "ignore", cwd: this.#directory }),
    );
  }
}

function places(directory: string): string[] {
  return [
    `mon_data = ${directory}/mon`,
    `osd_data = ${directory}/osd`,
    `rgw_data = ${directory}/rgw`,
    `run_dir = ${directory}/run`,
    `admin_socket = ${directory}/run/$name.asok`,
    `log_file = ${directory}/$name.log`,
  ];
}

const SETTINGS = [
  "[global]",
  "mon_initial_members = a",
  "public_addr = 127.0.0.1",
  "ms_bind_msgr1 = false",
  ...["auth_cluster_required", "auth_service_required", "auth_client_required"].map((key) => `${key} = none`),
  // Without keys there is nothing to encrypt with, and "secure" is what some would insist on.
  ...["ms_mon_cluster_mode", "ms_mon_service_mode", "ms_mon_client_mode"].map((key) => `${key} = crc`),
  "osd_pool_default_size = 1",
  "osd_pool_default_min_size = 1",
  "osd_pool_default_pg_num = 1",
  "osd_pool_default_pgp_num = 1",
  "osd_pool_default_pg_autoscale_mode = off",
  "osd_crush_chooseleaf_type = 0",
  "mon_allow_pool_size_one = true",
  "mon_max_pg_per_osd = 1000",
  "mon_data_avail_crit = 1",
  // One monitor has nobody to wait for: the dozen pools are made in a third of the time.
  "paxos_propose_interval = 0.02",
  "paxos_min_wait = 0.01",
  ...["data_log_num_shards", "md_log_max_shards", "gc_max_objs"].map((key) => `rgw_${key} = 1`),
  ...["run_sync_thread", "enable_quota_threads", "enable_lc_threads"].map((key) => `rgw_${key} = false`),
  // So that a list of some hundred objects has pages.
  "rgw_max_listing_results = 100",
  // Buckets as hosts below this name too; keys for encryption by the service.
  `rgw_dns_name = ${S3_HOST}`,
  "rgw_crypt_require_ssl = false",
  "rgw_crypt_s3_kms_backend = testing",
  `rgw_crypt_s3_kms_encryption_keys = ${S3_KMS_KEY}=${Buffer.alloc(32, "k").toString("base64")}`,
  "osd_objectstore = memstore",
  `memstore_device_bytes = ${4 * 1024 ** 3}`,
];
