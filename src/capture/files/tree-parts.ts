import type { Logger } from "pino";

import type { TreePath } from "../../event/tree-path.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { LargeFiles } from "./large-files.ts";
import type { OwnFiles } from "./own-files.ts";
import type { Publisher } from "./publisher.ts";
import type { Selection } from "./selection.ts";
import type { TreeEntries } from "./tree-entries.ts";
import type { TreeProblems } from "./tree-problems.ts";

/** What the parts of a tree's capture share. */
export interface TreeParts {
  readonly name: string;
  readonly entries: TreeEntries;
  readonly publisher: Publisher;
  readonly selection: Selection;
  readonly own: OwnFiles;
  readonly problems: TreeProblems;
  /**
   * Directories in which something was said to have come or gone: their own times come after it. Also what was read on behind a
   * look that had ended: the next look says it.
   */
  readonly touched: Set<TreePath>;
  readonly large: LargeFiles;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Abort: reads end that go on behind a look. */
  readonly closed: AbortSignal;
}
