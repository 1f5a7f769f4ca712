const SIZE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  k: 1024,
  kib: 1024,
  kb: 1000,
  m: 1024 ** 2,
  mib: 1024 ** 2,
  mb: 1000 ** 2,
  g: 1024 ** 3,
  gib: 1024 ** 3,
  gb: 1000 ** 3,
  t: 1024 ** 4,
  tib: 1024 ** 4,
  tb: 1000 ** 4,
};

const DURATION_UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

const AMOUNT = /^(\d{1,15}(?:\.\d{1,6})?)\s*([a-z]*)$/i;

/** Bytes of `50GiB`, `64 KiB`, `1.5MB`, `4096`. Undefined when it is no size, or not a whole safe number of bytes. */
export function parseSize(text: string): number | undefined {
  return parseAmount(text, SIZE_UNITS);
}

/** Milliseconds of `60s`, `1.5h`; units ms, s, m, h, d, w. Undefined without a unit: 60 could be anything. */
export function parseDuration(text: string): number | undefined {
  return parseAmount(text, DURATION_UNITS_MS);
}

function parseAmount(text: string, units: Readonly<Record<string, number>>): number | undefined {
  const [, amount, unit] = AMOUNT.exec(text.trim()) ?? [];
  const factor = unit === undefined ? undefined : units[unit.toLowerCase()];
  if (amount === undefined || factor === undefined) return undefined;
  const value = Math.round(Number(amount) * factor);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** `50%` as 0.5; undefined when it is no share of 0 to 100 %. */
export function parseShare(text: string): number | undefined {
  const percent = /^(\d{1,3}(?:\.\d{1,3})?)\s*%$/.exec(text.trim())?.[1];
  return percent !== undefined && Number(percent) <= 100 ? Number(percent) / 100 : undefined;
}

const SIZE_STEPS = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

/** `1.5 GiB`, for people. */
export function formatSize(bytes: number): string {
  let value = bytes;
  let step = 0;
  while (value >= 1024 && step < SIZE_STEPS.length - 1) {
    value /= 1024;
    step += 1;
  }
  const digits = step === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${SIZE_STEPS[step] ?? "B"}`;
}

/** `4 ms`, `2.5 s`, `3 min`, `5 h`, for people. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 3_600_000) return `${Math.round(ms / 60_000)} min`;
  return ms < 172_800_000 ? `${Math.round(ms / 3_600_000)} h` : `${Math.round(ms / 86_400_000)} d`;
}
