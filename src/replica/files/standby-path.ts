import { byteString, pathProblem, type TreePath } from "../../event/tree-path.ts";
import { TidemarkError } from "../../runtime/errors.ts";
import { STATE_DIRECTORY } from "../standby-paths.ts";

/** Of a place in a tree, relative to the standby's root. */
export function standbyPath(tree: string, path: TreePath): TreePath {
  const root = byteString(Buffer.from(tree));
  return (path === "" ? root : `${root}/${path}`) as TreePath;
}

/** Names come out of the log, so they are not to be trusted. @throws PATH_UNSAFE */
export function requireTreeName(name: string): void {
  const problem =
    pathProblem(byteString(Buffer.from(name))) ??
    (name.split("/")[0] === STATE_DIRECTORY ? `is ${STATE_DIRECTORY}, Tidemark's own` : undefined);
  if (problem === undefined) return;
  throw new TidemarkError("PATH_UNSAFE", `the log names a tree ${JSON.stringify(name)}, which ${problem}`, {
    hint: "Correct its name in the configuration of the capture agent.",
  });
}
