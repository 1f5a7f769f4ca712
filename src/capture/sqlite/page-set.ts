/** Page numbers, one bit each: a set of all pages of 5 GiB takes 160 KiB. */
export class PageSet {
  #bits = new Uint8Array(1024);

  add(pageNumber: number): void {
    const byte = pageNumber >>> 3;
    if (byte >= this.#bits.length) this.#grow(byte + 1);
    this.#bits[byte] = (this.#bits[byte] ?? 0) | (1 << (pageNumber & 7));
  }

  has(pageNumber: number): boolean {
    return ((this.#bits[pageNumber >>> 3] ?? 0) & (1 << (pageNumber & 7))) !== 0;
  }

  #grow(bytes: number): void {
    const grown = new Uint8Array(Math.max(bytes, this.#bits.length * 2));
    grown.set(this.#bits);
    this.#bits = grown;
  }
}
