import { z } from "zod";

import { parseDuration, parseShare, parseSize } from "./units.ts";

const size = z.union([z.string(), z.number()]).transform((given, context) => {
  const bytes = typeof given === "number" ? given : parseSize(given);
  if (bytes !== undefined && Number.isSafeInteger(bytes) && bytes > 0) return bytes;
  context.addIssue({ code: "custom", message: "is no size; write for instance 64KiB, 512MiB or 50GiB" });
  return z.NEVER;
});

const duration = z.union([z.string(), z.number()]).transform((given, context) => {
  const ms = typeof given === "number" ? undefined : parseDuration(given);
  if (ms !== undefined && ms > 0) return ms;
  context.addIssue({
    code: "custom",
    message: "is no duration; write it with a unit, for instance 500ms, 60s, 30m or 24h",
  });
  return z.NEVER;
});

/** A duration, or `off`. */
const interval = z.union([z.string(), z.number()]).transform((given, context) => {
  if (given === "off") return given;
  const ms = typeof given === "number" ? undefined : parseDuration(given);
  if (ms !== undefined && ms > 0) return ms;
  context.addIssue({
    code: "custom",
    message: "is no duration; write it with a unit, for instance 12h, 24h or 7d, or off",
  });
  return z.NEVER;
});

/** `50%` as 0.5. */
const share = z.string().transform((given, context) => {
  const parsed = parseShare(given);
  if (parsed !== undefined) return parsed;
  context.addIssue({ code: "custom", message: "is no share; write for instance 50%" });
  return z.NEVER;
});

const text = z.string().min(1, "is empty");

const wholeNumber = (least: number, most: number) =>
  z.union([z.string(), z.number()]).transform((given, context) => {
    const value = Number(given);
    if (given !== "" && Number.isInteger(value) && value >= least && value <= most) return value;
    context.addIssue({ code: "custom", message: `is no whole number from ${least} to ${most}` });
    return z.NEVER;
  });

const fenceMode = z.enum(["lock", "hook", "none"]);

const keepCount = wholeNumber(0, 100_000).optional();

const keep = z.strictObject({
  last: keepCount,
  within: duration.optional(),
  hourly: keepCount,
  daily: keepCount,
  weekly: keepCount,
  monthly: keepCount,
  yearly: keepCount,
});

const base = z.strictObject({ every: duration.optional(), orBytes: size.optional() });

const repository = z.union([
  text,
  z.strictObject({
    path: text,
    keep: keep.optional(),
    base: base.optional(),
    limits: z
      .strictObject({
        /** Bytes a second. */
        upload: size.optional(),
        /** Bytes a second. */
        download: size.optional(),
        requests: wholeNumber(1, 256).optional(),
      })
      .optional(),
    endpoint: text.optional(),
    region: text.optional(),
    profile: text.optional(),
    pathStyle: z.boolean().optional(),
    ca: text.optional(),
    sse: z.enum(["AES256", "aws:kms"]).optional(),
    kmsKey: text.optional(),
    storageClass: text.optional(),
    objectLock: z.strictObject({ mode: z.enum(["GOVERNANCE", "COMPLIANCE"]), days: wholeNumber(1, 36_500) }).optional(),
    keyFile: text.optional(),
    knownHosts: text.optional(),
    hostKey: text.optional(),
  }),
]);

/** tidemark.yml, described in docs/configuration.md. Every object refuses keys it does not know. */
export const fileSchema = z.strictObject({
  set: text.optional(),
  databases: z.array(z.union([text, z.strictObject({ path: text, name: text.optional() })])).optional(),
  files: z
    .array(
      z.union([
        text,
        z.strictObject({
          path: text,
          name: text.optional(),
          exclude: z.array(text).optional(),
          include: z.array(text).optional(),
          maxDelete: share.optional(),
        }),
      ]),
    )
    .optional(),
  rescan: duration.optional(),
  order: z.strictObject({ maxWait: duration.optional() }).optional(),
  log: text.optional(),
  nats: z
    .strictObject({
      credentials: text.optional(),
      user: text.optional(),
      password: text.optional(),
      token: text.optional(),
      nkey: text.optional(),
      tls: z.strictObject({ ca: text.optional(), cert: text.optional(), key: text.optional() }).optional(),
      replicas: wholeNumber(1, 5).optional(),
      maxBytes: size.optional(),
    })
    .optional(),
  /** A directory, or with the limits of its WAL. */
  standby: z
    .union([text, z.strictObject({ path: text, checkpoint: size.optional(), walMax: size.optional() })])
    .optional(),
  state: text.optional(),
  wal: z.strictObject({ max: size.optional(), seal: size.optional() }).optional(),
  heartbeat: duration.optional(),
  encryption: z.strictObject({ recipients: z.array(text).optional(), identity: text.optional() }).optional(),
  granularity: z.enum(["adaptive", "commit"]).optional(),
  /** Bytes a second. */
  copyRate: size.optional(),
  maxPinned: wholeNumber(1, 1_000_000).optional(),
  scrub: interval.optional(),
  /** Bytes a second. */
  scrubRate: size.optional(),
  repository: z.union([repository, z.array(repository)]).optional(),
  base: base.optional(),
  /** For repositories without rules of their own. */
  keep: keep.optional(),
  expire: z.enum(["auto", "manual"]).optional(),
  trim: z
    .strictObject({
      keep: duration.optional(),
      above: z.union([z.literal("never"), size]).optional(),
      verifiedIn: z.union([z.literal("all"), wholeNumber(1, 100)]).optional(),
      forget: duration.optional(),
    })
    .optional(),
  objectives: z.strictObject({ rpo: duration.optional() }).optional(),
  /** What is done, or with when a log that is away counts as lost. */
  fence: z.union([fenceMode, z.strictObject({ mode: fenceMode.optional(), after: duration.optional() })]).optional(),
  hooks: z
    .strictObject({
      onPromote: z.array(text).optional(),
      onFence: z.array(text).optional(),
      timeout: duration.optional(),
    })
    .optional(),
  /** Address and port of /metrics and its like. */
  http: z.strictObject({ listen: text.optional() }).optional(),
});

export type FileConfig = z.output<typeof fileSchema>;

/** Keys of the product that later versions bring, by dotted path. */
export const LATER_KEYS: readonly string[] = ["classes", "http.tokens", "alerts", "hooks.onAlert", "objectives.rto"];

/** Names that an object at `path` may have; undefined when there is no object in the schema. */
export function knownKeysAt(path: readonly PropertyKey[]): readonly string[] | undefined {
  let current: unknown = fileSchema;
  for (const step of path) {
    const found = objectIn(current);
    if (typeof step === "number") current = arrayIn(current)?.element;
    else current = found?.shape[String(step)];
  }
  const found = objectIn(current);
  return found && Object.keys(found.shape);
}

function objectIn(schema: unknown): z.ZodObject | undefined {
  if (schema instanceof z.ZodOptional) return objectIn(schema.unwrap());
  if (schema instanceof z.ZodUnion) return schema.options.map(objectIn).find((option) => option !== undefined);
  return schema instanceof z.ZodObject ? schema : undefined;
}

function arrayIn(schema: unknown): z.ZodArray | undefined {
  if (schema instanceof z.ZodOptional) return arrayIn(schema.unwrap());
  return schema instanceof z.ZodArray ? schema : undefined;
}
