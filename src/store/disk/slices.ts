// Reuses the buffers that files are read through: allocating one per read would cost more than the
// read. Hashing one blocks the event loop for about 0.5 ms with SHA extensions and 3 ms without,
// hence the size.

const SLICE_BYTES = 512 * 1024
const SPARE_SLICES = 4

const spare: Buffer[] = []

/** Returns a buffer of 512 KiB with arbitrary content. */
export function takeSlice(): Buffer {
  return spare.pop() ?? Buffer.allocUnsafeSlow(SLICE_BYTES)
}

/** Takes a buffer back. Call it only after the last read into it has ended. */
export function returnSlice(slice: Buffer): void {
  if (spare.length < SPARE_SLICES) spare.push(slice)
}
