import fs from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import { type Clock, systemClock } from "../../../src/runtime/clock.ts";
import { TreeScene } from "../../support/tree-scene.ts";

const SECRET = "what only the agent may read, ".repeat(10);
/** Looks at places, and directories listed, in a scan of the tree below. */
const MOMENTS = 12;

/** Calls back at the so manieth look at a place: that begins with a look at the clock. */
class Moments implements Clock {
  readonly monotonic = systemClock.monotonic;
  onMoment: ((count: number) => void) | undefined;
  #count = 0;

  now(): number {
    this.onMoment?.((this.#count += 1));
    return systemClock.now();
  }
}

test("a directory that becomes a link at any moment of a scan leads nobody out of the tree", async () => {
  const seen: string[] = [];
  let atOnce = 0;
  for (let moment = 1; moment <= MOMENTS; moment += 1) {
    const clock = new Moments();
    await using scene = await TreeScene.open({ clock });
    const outside = path.join(scene.directory, "outside");
    const inside = scene.at("d/e");
    for (const directory of [outside, inside]) {
      fs.mkdirSync(path.join(directory, "below"), { recursive: true });
      for (const name of ["small", "below/small"]) {
        const isSecret = directory === outside;
        fs.writeFileSync(path.join(directory, name), isSecret ? SECRET : "harmless");
        fs.writeFileSync(path.join(directory, `${name}.large`), (isSecret ? SECRET : "harmless").repeat(50_000));
        fs.symlinkSync(isSecret ? "secret-target" : "harmless-target", path.join(directory, `${name}.link`));
      }
    }
    fs.writeFileSync(path.join(outside, "only-outside"), SECRET);
    clock.onMoment = (count) => {
      if (count !== moment) return;
      fs.renameSync(inside, scene.at("d/away"));
      fs.symlinkSync(outside, inside);
      atOnce += 1;
    };
    await scene.scan();
    clock.onMoment = undefined;
    for (const { body } of await scene.events()) {
      const said = Buffer.from(JSON.stringify(body, (_key, value: unknown) => (typeof value === "bigint" ? 0 : value)));
      const data = "data" in body && body.data ? Buffer.from(body.data) : Buffer.alloc(0);
      for (const secret of ["only the agent", "secret-target", "only-outside"])
        if (said.includes(secret) || data.includes(secret)) seen.push(`${moment}: ${body.kind} ${secret}`);
    }
    await scene.scan();
    await scene.expectSame();
  }
  expect(seen).toEqual([]);
  expect(atOnce).toBe(MOMENTS);
});
