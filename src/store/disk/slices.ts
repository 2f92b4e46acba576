// Buffers to read files through, used again and again: one large allocation per read would cost more
// than the read. A slice is hashed in about half a millisecond with SHA extensions, in three without.

const SLICE_BYTES = 512 * 1024
const SPARE_SLICES = 4

const spare: Buffer[] = []

/** A buffer of 512 KiB with anything in it. */
export function takeSlice(): Buffer {
  return spare.pop() ?? Buffer.allocUnsafeSlow(SLICE_BYTES)
}

/** After the last read into it has ended. */
export function returnSlice(slice: Buffer): void {
  if (spare.length < SPARE_SLICES) spare.push(slice)
}
