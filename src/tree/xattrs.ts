import { getSystemErrorName } from "node:util";

import { getAttributeSync, listAttributesSync, removeAttributeSync, setAttributeSync } from "@napi-rs/xattr";

/** The application's own and what every host understands alike. Others belong to a file system or a security module. */
const OURS = /^(?:user|trusted)\.|^security\.capability$/;
const ACL = /^system\.posix_acl_(?:access|default)$/;
/** What a file system does not know, does not allow here, or has no room for: it takes the file without it. */
const REFUSALS: ReadonlySet<string> = new Set(["ENOTSUP", "EPERM", "EACCES", "EINVAL", "E2BIG", "ENOSPC", "ERANGE"]);

/**
 * Extended attributes, POSIX ACLs among them, of what is at the path itself: a symbolic link at its end is not followed.
 * Undefined when there are none, or the file system knows none.
 *
 * @throws an Error with an errno as its code; EILSEQ when the name of one of them is not UTF-8: then none can be read
 */
export function readXattrs(path: string): ReadonlyMap<string, Uint8Array> | undefined {
  const found = new Map<string, Uint8Array>();
  for (const name of listXattrs(path)) {
    const value = withErrno(() => getAttributeSync(path, name));
    if (value) found.set(name, value);
  }
  return found.size > 0 ? found : undefined;
}

/** In one order whatever the file system's: equal attributes are equal bytes. */
function listXattrs(path: string): string[] {
  return withErrno(() => listAttributesSync(path))
    .filter((name) => OURS.test(name) || ACL.test(name))
    .toSorted();
}

/** Removes those of ours that are there and not wanted. */
export function removeOtherXattrs(path: string, wanted: ReadonlyMap<string, Uint8Array>, isRoot: boolean): void {
  for (const name of listXattrs(path)) {
    if (!wanted.has(name) && (isRoot || !needsRoot(name))) withErrno(() => removeAttributeSync(path, name));
  }
}

/** Returns those that the file system did not take. `part`: the ACLs, or all but them. */
export function setXattrs(
  path: string,
  wanted: ReadonlyMap<string, Uint8Array>,
  { part, isRoot }: { readonly part: "acl" | "others"; readonly isRoot: boolean },
): string[] {
  return [...wanted.keys()].filter((name) => {
    if (ACL.test(name) !== (part === "acl") || (!isRoot && needsRoot(name))) return false;
    return !isTaken(path, name, wanted.get(name) ?? new Uint8Array(0));
  });
}

function isTaken(path: string, name: string, value: Uint8Array): boolean {
  try {
    withErrno(() => setAttributeSync(path, name, value));
    return true;
  } catch (error) {
    if (error instanceof XattrError && REFUSALS.has(error.code)) return false;
    throw error;
  }
}

function needsRoot(name: string): boolean {
  return name.startsWith("security.") || name.startsWith("trusted.");
}

class XattrError extends Error {
  readonly code: string;

  constructor(code: string, message: string, cause: unknown) {
    super(message, { cause });
    this.code = code;
  }
}

/** The library tells the errno in words only: "… (os error 95)". */
function withErrno<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const number = /\(os error (\d+)\)/.exec(message)?.[1];
    if (number !== undefined) throw new XattrError(getSystemErrorName(-Number(number)), message, error);
    throw message.startsWith("Invalid attribute") ? new XattrError("EILSEQ", message, error) : error;
  }
}
