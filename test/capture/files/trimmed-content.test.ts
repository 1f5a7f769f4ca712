import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { expect, test } from "vitest";

import { FileIndex } from "../../../src/capture/files/file-index.ts";
import { contentId } from "../../../src/tree/content-id.ts";
import { PageDiffLog } from "../../support/page-diff-log.ts";
import { waitFor } from "../../support/wait.ts";

test("content whose record was trimmed is not in the log any more, seen at a look and at a start", async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-content-"));
  try {
    await using log = await PageDiffLog.open(path.join(directory, "log"));
    const [old, recent] = [Buffer.from("old"), Buffer.from("recent")];
    const chunk = (data: Buffer) => ({ kind: "file.chunk", id: Buffer.from(contentId(data), "latin1"), data }) as const;
    const at = await log.append([chunk(old)]);
    const head = await log.append([chunk(recent)]);
    const options = { log: log.log, logId: log.writer.logId, head, signal: new AbortController().signal };
    const known = (index: FileIndex): boolean[] => [old, recent].map((data) => index.hasContent(contentId(data)));
    {
      using index = new FileIndex(path.join(directory, "state"));
      await index.recover(options);
      expect(known(index)).toEqual([true, true]);
      await log.log.trim(at);
      await waitFor("the look", async () => {
        await index.lookAtLog(log.log);
        return !known(index)[0];
      });
      expect(known(index)).toEqual([false, true]);
    }
    using index = new FileIndex(path.join(directory, "state"));
    await index.recover(options);
    expect(known(index)).toEqual([false, true]);
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
});
