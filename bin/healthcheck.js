#!/usr/bin/env node
// What the image's HEALTHCHECK runs, as there is no curl in it: exits with 0 when the server in the same
// container answers at CHANDLERY_ADMIN_LISTEN (which wins over the configuration file), else with 1.
// Plain JavaScript and node:http alone: it runs every half minute beside the server, in its memory limit.
import { get } from 'node:http'

const [, host, port] = /^\[?(.*?)\]?:(\d+)$/.exec(process.env.CHANDLERY_ADMIN_LISTEN ?? '') ?? []
// Whoever listens on every address is reached on the loopback one.
const every = { '': '127.0.0.1', '0.0.0.0': '127.0.0.1', '::': '::1' }

function end(problem) {
  if (problem) process.stderr.write(`not healthy: ${problem}\n`)
  process.exit(problem ? 1 : 0)
}

if (!port) end('CHANDLERY_ADMIN_LISTEN is not an address with a port')
get({ host: every[host] ?? host, port, path: '/healthz', timeout: 4_000 }, ({ statusCode }) => {
  end(statusCode === 200 ? '' : `/healthz answers ${statusCode}`)
})
  .on('timeout', () => end('/healthz does not answer in time'))
  .on('error', ({ message }) => end(message))
