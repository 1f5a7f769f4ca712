import { isUtf8 } from "node:buffer";

declare const treePathBrand: unique symbol;

/**
 * Path within a tree, one character per byte (latin1): names need not be UTF-8, and equal bytes are equal strings.
 * Relative, parts joined by `/`; "" is the root, which in a tree of a single file is that file.
 * Without empty parts, `.`, `..` and NUL: it cannot lead out of the tree by itself.
 */
export type TreePath = string & { readonly [treePathBrand]: true };

/** One character per byte. */
export type ByteString = string;

export const TREE_ROOT = "" as TreePath;

/** PATH_MAX of Linux without its NUL. */
export const MAX_PATH_BYTES = 4095;
/** NAME_MAX of Linux. */
const MAX_NAME_BYTES = 255;

/** What is wrong with it as a path within a tree; undefined: nothing. */
export function pathProblem(bytes: ByteString): string | undefined {
  if (bytes === "") return undefined;
  if (bytes.length > MAX_PATH_BYTES) return `has ${bytes.length} bytes, at most ${MAX_PATH_BYTES} are possible`;
  if (bytes.includes("\0")) return "contains NUL";
  for (const part of bytes.split("/")) {
    if (part === "" || part === "." || part === "..") return `has the part ${JSON.stringify(part)}`;
    if (part.length > MAX_NAME_BYTES) return `has a name of ${part.length} bytes`;
  }
  return undefined;
}

/** Of bytes that name a place in a tree; what is wrong with them otherwise. */
export function treePath(bytes: ByteString): TreePath | undefined {
  return pathProblem(bytes) === undefined ? (bytes as TreePath) : undefined;
}

export function byteString(bytes: Uint8Array): ByteString {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}

export function bytesOf(text: ByteString): Buffer {
  return Buffer.from(text, "latin1");
}

/** `name` is one part, as a directory listing gives it. */
export function joinPath(directory: TreePath, name: ByteString): TreePath {
  return (directory === "" ? name : `${directory}/${name}`) as TreePath;
}

/** The directory that holds it; of the root: the root. */
export function parentPath(path: TreePath): TreePath {
  return path.slice(0, Math.max(0, path.lastIndexOf("/"))) as TreePath;
}

export function nameOf(path: TreePath): ByteString {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** For calls of node:fs, which take bytes: `root` is an ordinary path. */
export function fsPath(root: string, path: TreePath): Buffer {
  return path === "" ? Buffer.from(root) : Buffer.concat([Buffer.from(`${root}/`), bytesOf(path)]);
}

/** The other way round: `file` is absolute, without links. Undefined: it is not in this directory. */
export function pathBelow(root: string, file: ByteString): TreePath | undefined {
  const directory = byteString(Buffer.from(root));
  if (file === directory) return TREE_ROOT;
  return file.startsWith(`${directory}/`) ? treePath(file.slice(directory.length + 1)) : undefined;
}

/** Something in a tree, as people see it: `uploads/2026/a.pdf`. So it is named on the standby, too. */
export function shownPlace(tree: string, path: TreePath): string {
  return path === "" ? tree : `${tree}/${shownPath(path)}`;
}

/** What a terminal would obey, or show in another order or on another line than it stands in. */
const MISLEADING = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu;

/** For people and JSON: as UTF-8, what is no UTF-8 and what would mislead as \xNN, its bytes. */
export function shownPath(path: ByteString): string {
  const bytes = bytesOf(path);
  const text = isUtf8(bytes) ? bytes.toString() : path.replaceAll(/[\x80-\xff]/g, escaped);
  return text.replaceAll(MISLEADING, (character) => byteString(Buffer.from(character)).replaceAll(/./gsu, escaped));
}

function escaped(byte: string): string {
  return `\\x${(byte.codePointAt(0) ?? 0).toString(16).padStart(2, "0")}`;
}
