#!/usr/bin/env -S MALLOC_ARENA_MAX=2 node --max-semi-space-size=2
// That option: short-lived objects get little room, which saves some 50 MB and costs no time that could be measured.
// Nothing is imported before this check: an older Node would stumble over the first file that uses what it lacks.
const oldest = 24;
const found = process.versions.node;
if (Number(found.split(".")[0]) < oldest) {
  process.stderr.write(
    `USAGE: Tidemark needs Node ${oldest} or newer, this is ${found}. Install it, or run scripts/tidemark of a checkout.\n`,
  );
  process.exit(2);
}
const { keepCompiledCode } = await import("./compile-cache.ts");
keepCompiledCode();
const { runTidemark } = await import("./run-tidemark.ts");
await runTidemark(process.argv.slice(2));

export {};
