#!/usr/bin/env node
// Starts src/main.ts under a Node that can run it, and says what is missing where this one cannot.
// Plain JavaScript on purpose: an old Node must be able to read it.
import module from 'node:module'
import v8 from 'node:v8'

const [major] = process.versions.node.split('.').map(Number)
if (major < 26) {
  process.stderr.write(
    `chandlery needs Node.js 26 or newer; this is ${process.version}.\n` +
      'Run it through npm (npm start), which brings the right Node, or install Node.js 26.\n',
  )
  process.exit(1)
}
// To the first process of a container a signal that nobody listens for does not happen: stopped while it is
// still being loaded, it would be waited for until it is killed. Whoever listens later decides.
if (process.pid === 1) {
  for (const [name, code] of Object.entries({ SIGINT: 130, SIGTERM: 143 })) {
    process.on(name, () => process.listenerCount(name) === 1 && process.exit(code))
  }
}
// Kept between starts, types need not be stripped again: it halves the start and saves 25 MiB. Where
// nothing can be written it does nothing. NODE_COMPILE_CACHE says where.
module.enableCompileCache()
// Every read from a socket is a new 64 KiB buffer that lives outside the heap. In a young generation
// that grows, hardly any collection comes to free them before V8 takes their bulk for a full heap and
// marks all of it, again and again: that was half the CPU of a cold blob, and 70 MiB.
v8.setFlagsFromString('--semi-space-growth-factor=1')
await import('../src/main.ts')
