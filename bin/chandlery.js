#!/usr/bin/env node
// Starts src/main.ts under a Node that can run it, and says what is missing where this one cannot.
// Plain JavaScript on purpose: an old Node must be able to read it.
import module from 'node:module'

const [major] = process.versions.node.split('.').map(Number)
if (major < 26) {
  process.stderr.write(
    `chandlery needs Node.js 26 or newer; this is ${process.version}.\n` +
      'Run it through npm (npm start), which brings the right Node, or install Node.js 26.\n',
  )
  process.exit(1)
}
// Kept between starts, types need not be stripped again: it halves the start and saves 25 MiB. Where
// nothing can be written it does nothing. NODE_COMPILE_CACHE says where.
module.enableCompileCache()
await import('../src/main.ts')
