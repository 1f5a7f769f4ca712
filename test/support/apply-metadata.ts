// Gives a file metadata, in a process of its own, which may run as another user. Usage: apply-metadata.ts FILE MODE UID
import { applyMetadata } from "../../src/tree/metadata.ts";

const [file = "", mode = "", uid = ""] = process.argv.slice(2);
const xattrs = new Map([
  ["user.note", Buffer.from("n")],
  ["trusted.note", Buffer.from("t")],
]);
const refused = applyMetadata(file, { mode: Number.parseInt(mode, 8), uid: Number(uid), gid: 0, mtimeNs: 5n, xattrs });
process.stdout.write(JSON.stringify(refused));
