/** Extended attributes as one value of a database: name, NUL, length (u32, big-endian), value, one behind the other. */
export function packXattrs(xattrs: ReadonlyMap<string, Uint8Array> | undefined): Buffer | null {
  if (!xattrs || xattrs.size === 0) return null;
  const pieces: Uint8Array[] = [];
  for (const [name, value] of xattrs) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(value.length);
    pieces.push(Buffer.from(`${name}\0`), length, value);
  }
  return Buffer.concat(pieces);
}

export function unpackXattrs(packed: Buffer | null): ReadonlyMap<string, Uint8Array> | undefined {
  if (!packed) return undefined;
  const xattrs = new Map<string, Uint8Array>();
  for (let at = 0; at < packed.length;) {
    const end = packed.indexOf(0, at);
    const length = packed.readUInt32BE(end + 1);
    xattrs.set(packed.toString("utf8", at, end), packed.subarray(end + 5, end + 5 + length));
    at = end + 5 + length;
  }
  return xattrs;
}
