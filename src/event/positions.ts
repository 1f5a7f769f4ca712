declare const offsetBrand: unique symbol;
declare const epochBrand: unique symbol;

/** Position in the log: 1 is the first event, 0 = before the first event. Safe integer, never reused. */
export type Offset = number & { readonly [offsetBrand]: true };

/** A period with one writer, from 1. u32. */
export type Epoch = number & { readonly [epochBrand]: true };

export const offset = (value: number): Offset => value as Offset;
export const epoch = (value: number): Epoch => value as Epoch;

export const BEFORE_FIRST: Offset = offset(0);
