import { TidemarkError } from "../../runtime/errors.ts";

/** So few files may go at any time, whatever share of the tree they are. */
const FEW_FILES = 10;

const WAY_OUT = "start the agent once with --accept-empty";

export interface GuardedTree {
  readonly name: string;
  readonly root: string;
  /** Share of the files that may be gone at once, 0 to 1. */
  readonly maxDeleteShare: number;
}

export function missingError({ name, root }: GuardedTree, known: number): TidemarkError {
  const what = known > 0 ? `; the log holds ${known} files of it` : "";
  return new TidemarkError("TREE_MISSING", `tree ${name}: ${root} is not there${what}`, {
    hint: "Mount it or make it again; it is looked for every few seconds. What the log and the standby have of it stays as it is.",
  });
}

export function unreadableError({ name, root }: GuardedTree, error: unknown): TidemarkError {
  const reason = error instanceof Error ? error.message : String(error);
  return new TidemarkError("TREE_MISSING", `tree ${name}: ${root} cannot be read: ${reason}`, {
    hint: "Give the agent's user the right to read it; it is tried again every few seconds.",
    cause: error,
  });
}

/** The directory of a tree with files is empty: more often a mount that is gone than a wish. @throws TREE_EMPTIED */
export function requireNotEmptied({ name, root }: GuardedTree, known: number): void {
  if (known === 0) return;
  throw new TidemarkError("TREE_EMPTIED", `tree ${name}: ${root} is empty; the log holds ${known} files of it`, {
    hint: `Nothing of it is removed from the standby. Mount it or bring the files back; if it is meant to be empty, ${WAY_OUT}.`,
  });
}

/** @throws MASS_DELETION */
export function requireFewRemovals(tree: GuardedTree, gone: number, known: number): void {
  const { name, root, maxDeleteShare } = tree;
  if (gone <= FEW_FILES || gone <= known * maxDeleteShare) return;
  const share = `${Math.floor((gone / known) * 100)} %`;
  throw new TidemarkError(
    "MASS_DELETION",
    `tree ${name}: ${gone} of ${known} files (${share}) of ${root} are gone at once`,
    {
      hint: `Nothing of it is removed from the standby. Bring the files back; if they are meant to be gone, ${WAY_OUT}, or raise maxDelete (${Math.round(maxDeleteShare * 100)}%) of this tree.`,
    },
  );
}
