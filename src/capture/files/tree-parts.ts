import type { Logger } from "pino";

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
  readonly large: LargeFiles;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Abort: reads end that go on behind a look. */
  readonly closed: AbortSignal;
}
