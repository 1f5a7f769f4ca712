import { offset } from "../../../src/event/positions.ts";
import { openEmbeddedLog } from "../../../src/log/embedded-log.ts";

/** Trims an embedded log beside its writer: `trim-log.ts DIRECTORY SET THROUGH`. */
const [directory = "", set = "", through = "0"] = process.argv.slice(2);
await using log = await openEmbeddedLog({ directory, set, mode: "read" });
await log.trim(offset(Number(through)));
