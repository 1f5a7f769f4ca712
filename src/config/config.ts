import type { HttpConfig } from "./http-listen.ts";

/** What one run of Tidemark works with: file, environment and flags merged, checked and frozen. See load-config.ts. */
export interface Config {
  /** Name of the set: a NATS subject token, `[A-Za-z0-9_-]{1,64}`. */
  readonly set: string;
  /** Those that are listed, and those that a pattern matched when the configuration was read. */
  readonly databases: readonly DatabaseConfig[];
  readonly patterns: readonly DatabasePattern[];
  readonly trees: readonly TreeConfig[];
  readonly log: LogConfig | undefined;
  /** Absolute directory of the standby. */
  readonly standby: string | undefined;
  /** Absolute directory for this host's agent state and its control socket. */
  readonly state: string;
  readonly capture: CaptureConfig;
  readonly replica: ReplicaConfig;
  readonly encryption: EncryptionConfig;
  /** The first is the one that `status` tells of first, and that restores look at first. */
  readonly repositories: readonly RepositoryConfig[];
  readonly base: BaseConfig;
  /** auto: the replica applies the rules of those repositories that have some. */
  readonly expire: "auto" | "manual";
  readonly trim: TrimConfig;
  readonly objectives: { readonly rpoMs: number };
  /** Where /metrics is answered; undefined: nowhere. */
  readonly http: HttpConfig | undefined;
  readonly fence: FenceConfig;
  readonly hooks: HooksConfig;
}

/** What a primary does once another one has taken its place. */
export interface FenceConfig {
  /** lock: holds SQLite's write lock, so that the application cannot write. hook: leaves that to `hooks.onFence`. */
  readonly mode: "lock" | "hook" | "none";
  /** With the log away for so long the application is kept from writing until it is back; undefined = never. */
  readonly afterMs: number | undefined;
}

/** Commands for /bin/sh. */
export interface HooksConfig {
  readonly onPromote: readonly string[];
  readonly onFence: readonly string[];
  /** Of each command. */
  readonly timeoutMs: number;
}

export interface EncryptionConfig {
  /** Public keys (`age1…`) for which the log is encrypted; empty: it is not. */
  readonly recipients: readonly string[];
  /** Where the private keys of this host are; undefined: it has none. */
  readonly identity: IdentitySource | undefined;
  /** The file has `encryption:`. */
  readonly asked: boolean;
}

/** Where private keys are. `text` is the key itself, out of the environment: never shown. */
export type IdentitySource =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "text"; readonly text: string; readonly variable: string };

export interface DatabaseConfig {
  /** Absolute path on the primary. */
  readonly path: string;
  /** Name in the log and on the standby: a relative path without `..`; unique in the set. */
  readonly name: string;
  /** Found by a pattern: it may come and go. */
  readonly byPattern?: true;
  /** It may be made after the start. */
  readonly awaited?: true;
}

/** A directory of files, or a single file. */
export interface TreeConfig {
  /** Absolute path on the primary. */
  readonly path: string;
  /** Name in the log and on the standby, as a database's. */
  readonly name: string;
  /** What is left out, in the syntax of gitignore, and what is taken all the same. */
  readonly exclude: readonly string[];
  readonly include: readonly string[];
  /** When a scan finds more than this share (0 to 1) of the tree's files gone, nothing is removed. */
  readonly maxDeleteShare: number;
}

/** A pattern under which databases appear and vanish, as it was given. */
export interface DatabasePattern {
  readonly pattern: string;
  /** Where a relative pattern counts from. */
  readonly directory: string;
  /** A name for the one database that it is meant to match. */
  readonly name: string | undefined;
  /** For messages. */
  readonly where: string;
}

export type LogConfig = EmbeddedLogConfig | NatsLogConfig;

export interface EmbeddedLogConfig {
  readonly kind: "embedded";
  readonly directory: string;
}

export interface NatsLogConfig {
  readonly kind: "nats";
  /** host:port each. */
  readonly servers: readonly string[];
  /** Path of a .creds file. */
  readonly credentials: string | undefined;
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly token: string | undefined;
  /** Path of an nkey seed file. */
  readonly nkey: string | undefined;
  readonly tls: { readonly ca?: string; readonly cert?: string; readonly key?: string } | undefined;
  /** Of the stream; undefined leaves an existing one as it is, and gives a new one 1. */
  readonly replicas: number | undefined;
  /** Stream limit in bytes; undefined leaves an existing stream as it is, and a new one without. */
  readonly maxBytes: number | undefined;
}

export interface CaptureConfig {
  /** adaptive: commits seen in one look may become one event. commit: never. */
  readonly granularity: "adaptive" | "commit";
  /** Past this size of the WAL a busy database is sealed. Bytes. */
  readonly sealBytes: number;
  /** Past this size of the WAL, with the log away, the pin is let go. Bytes. */
  readonly walMaxBytes: number;
  readonly heartbeatMs: number;
  /** Switch a database that is not in WAL mode; only on the user's word (`--set-wal`). */
  readonly setWal: boolean;
  /** Upper bound of reading during a first copy or repair, bytes a second; undefined = none. */
  readonly copyBytesPerSecond: number | undefined;
  /** So many databases are held open and pinned; the quietest beyond that rest. */
  readonly maxPinned: number;
  /** File trees are compared with what the log holds this often, whatever was announced. */
  readonly rescanMs: number;
  /** How long a commit waits for files that changed before it. */
  readonly orderMaxWaitMs: number;
  readonly scrub: ScrubConfig;
}

/** Reading the real database files again, to compare every page with what the log holds. */
export interface ScrubConfig {
  /** From the end of one to the beginning of the next; undefined = never. */
  readonly everyMs: number | undefined;
  /** Of all databases of an agent together. */
  readonly bytesPerSecond: number;
}

export interface ReplicaConfig {
  /** Past this size of a standby database's WAL it is checkpointed. Bytes. */
  readonly checkpointBytes: number;
  /** Past this size appending waits until a checkpoint succeeds. Bytes. */
  readonly walMaxBytes: number;
  readonly scrub: ScrubConfig;
}

/** Where a repository is and how it is used. Secrets are not in here: the environment has them when it is opened. */
export interface RepositoryConfig {
  readonly place: StorePlace;
  readonly limits: StoreLimits;
  /** Every object is put under a lock for so long. */
  readonly objectLock: { readonly mode: "GOVERNANCE" | "COMPLIANCE"; readonly days: number } | undefined;
  /** When a base is made in it; undefined = as in the set. */
  readonly base?: BaseConfig | undefined;
  /** Its own rules, or those of the set; undefined = none were given. */
  readonly keep: KeepConfig | undefined;
  /** Nobody named it: it is begun when the log has outgrown the standby. */
  readonly own?: true;
}

export type StorePlace = { readonly kind: "directory"; readonly directory: string } | S3Place | SftpPlace;

export interface S3Place {
  readonly kind: "s3";
  readonly bucket: string;
  /** Empty, or ends in a slash. */
  readonly prefix: string;
  /** Undefined = Amazon's own. */
  readonly endpoint: string | undefined;
  readonly region: string | undefined;
  /** Of ~/.aws/credentials. */
  readonly profile: string | undefined;
  /** https://host/bucket instead of https://bucket.host. */
  readonly pathStyle: boolean;
  /** File with certificates to trust. */
  readonly ca: string | undefined;
  readonly sse:
    | { readonly kind: "AES256" }
    | { readonly kind: "aws:kms"; readonly keyId: string | undefined }
    | undefined;
  readonly storageClass: string | undefined;
}

export interface SftpPlace {
  readonly kind: "sftp";
  readonly host: string;
  readonly port: number;
  /** Undefined = the one who runs Tidemark. */
  readonly user: string | undefined;
  /** Absolute, or counted from the user's home. */
  readonly directory: string;
  /** Undefined = ssh-agent, and the usual files of ~/.ssh. */
  readonly keyFile: string | undefined;
  /** Undefined = ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts. */
  readonly knownHosts: string | undefined;
  /** `SHA256:…`, as ssh-keygen -l shows it; goes before known hosts. */
  readonly hostKey: string | undefined;
}

export interface StoreLimits {
  readonly uploadBytesPerSecond: number | undefined;
  readonly downloadBytesPerSecond: number | undefined;
  /** In flight at once. */
  readonly requests: number;
}

/** What `keep` says; src/repository/retention.ts obeys it. A rule that is left out keeps nothing by itself. */
export interface KeepConfig {
  /** The newest ones. */
  readonly last?: number;
  /** Everything, and every moment, of so long before the newest base. */
  readonly withinMs?: number;
  /** The newest base of each of so many hours, days, … that have one. Calendar of UTC; weeks begin on Monday. */
  readonly hourly?: number;
  readonly daily?: number;
  readonly weekly?: number;
  readonly monthly?: number;
  readonly yearly?: number;
}

/** What of a log is removed when repositories have it. */
export interface TrimConfig {
  /** The newest events stay, so long. */
  readonly keepMs: number;
  /** Nothing is removed while the log is smaller. */
  readonly aboveBytes: number;
  /** In so many repositories a verified base must be; undefined = in all of them. */
  readonly verifiedIn: number | undefined;
  /** A standby that was not heard of for so long does not hold the log up any more. */
  readonly forgetMs: number;
}

/** When a base is made in a repository: whichever is due first, and only when something changed since the last one. */
export interface BaseConfig {
  readonly everyMs: number;
  /** So much was archived since the last one. */
  readonly bytes: number;
}
