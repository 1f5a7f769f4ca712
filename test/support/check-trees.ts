// What `check` says of a tree and of a standby, in a process that may run as another user. Usage: check-trees.ts TREE STANDBY
import path from "node:path";

import { checkOwners, checkTrees } from "../../src/observe/check-tree.ts";

const [tree = "", standby = ""] = process.argv.slice(2);
const config = { path: tree, name: path.basename(tree), exclude: [], include: [], maxDeleteShare: 0.5 };
process.stdout.write(JSON.stringify([...checkTrees([config]).findings, checkOwners(standby)]));
