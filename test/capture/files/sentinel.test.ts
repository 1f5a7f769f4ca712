import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { expect, test } from "vitest";

import { Sentinel } from "../../../src/capture/files/sentinel.ts";
import { inotify } from "../../../src/capture/files/watch-backend.ts";
import { sleep } from "../../../src/runtime/clock.ts";

test("one that is passed again and again leaves timers their turn", async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-sentinel-"));
  try {
    using sentinel = new Sentinel({ directory: path.join(directory, "s"), backend: inotify, patienceMs: 5000 });
    sentinel.begin();
    let rang = false;
    const timer = sleep(20).then(() => (rang = true));
    let passes = 0;
    for (; !rang && passes < 20_000; passes += 1) expect(await sentinel.pass()).toBe(passes + 1);
    await timer;
    // The loop that reads announcements would go on for as long as there are some.
    expect(passes).toBeLessThan(20_000);
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
});
