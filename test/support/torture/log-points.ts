import type { LogEvent } from "../../../src/event/kinds.ts";
import type { TreePath } from "../../../src/event/tree-path.ts";
import { LogFold } from "../log-fold.ts";
import { type EntryRow, fileContent, GENESIS } from "./ledger.ts";
import type { LogPoint } from "./verdict.ts";

/** Of the points that say they are consistent so many are compared with their files. */
const FILES_EVERY = 4;

/** What the log says, record by record, applied without any of the code that applies it on a standby. */
export function logPoints(events: readonly LogEvent[]): LogPoint[] {
  const fold = new LogFold();
  return events.map((event, index) => {
    const { offset, epoch, body } = event;
    fold.apply(event);
    if (body.kind === "epoch") {
      const { writer, reason, contains } = body;
      return { offset, epoch, begins: { writer, reason, ...(contains !== undefined && { contains }) } };
    }
    const chain = body.kind === "sqlite.commit" ? newestChain(fold) : undefined;
    const problems = event.consistent && index % FILES_EVERY === 0 ? missingFiles(fold) : [];
    return { offset, epoch, ...(chain !== undefined && { chain }), ...(problems.length > 0 && { problems }) };
  });
}

function newestChain(fold: LogFold): string {
  const [newest] = fold.rows<Pick<EntryRow, "chain">>("SELECT chain FROM entries ORDER BY seq DESC LIMIT 1");
  return newest?.chain ?? GENESIS;
}

function missingFiles(fold: LogFold): string[] {
  const rows = fold.rows<EntryRow>("SELECT writer, n, file FROM entries WHERE file IS NOT NULL");
  return rows.flatMap(({ writer, n, file }) => {
    const content = fold.files.get((file ?? "") as TreePath);
    if (content && fileContent(writer, n).equals(content)) return [];
    return [content ? `${file} holds something else` : `there is no ${file}`];
  });
}
