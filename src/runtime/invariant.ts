/** For our own bugs only; bytes from disk or network get an error that explains. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`invariant broken: ${message}`);
}
