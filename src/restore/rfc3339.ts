/** ms since 1970 -> `2026-05-04T10:15:00.123Z`. */
export function rfc3339(timeMs: number): string {
  return new Date(timeMs).toISOString();
}
