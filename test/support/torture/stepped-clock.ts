// Preloaded into a program under test, in every thread of it: its wall clock is off by the milliseconds that the file
// TIDEMARK_TEST_CLOCK says, from the moment they are there. The monotonic clock is left alone, as a clock that is set leaves it.
import fs from "node:fs";

const file = process.env["TIDEMARK_TEST_CLOCK"] ?? "";
const LOOK_MS = 50;
const realNow = Date.now;
let lookedMs = -Infinity;
let offMs = 0;

function look(): void {
  const nowMs = performance.now();
  if (nowMs - lookedMs < LOOK_MS) return;
  lookedMs = nowMs;
  offMs = fs.existsSync(file) ? Number(fs.readFileSync(file, "utf8")) : 0;
}

Date.now = () => {
  look();
  return realNow() + offMs;
};
