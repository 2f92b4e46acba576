#!/usr/bin/env node
// The HEALTHCHECK of the image, which has no curl. Exits with 0 if the server in the same container answers at
// CHANDLERY_ADMIN_LISTEN (which wins over the configuration file), otherwise with 1. It uses only node:http and
// plain JavaScript, because it runs every half minute within the memory limit of the server.
import { get } from 'node:http'

const [, host, port] = /^\[?(.*?)\]?:(\d+)$/.exec(process.env.CHANDLERY_ADMIN_LISTEN ?? '') ?? []
// A server that listens on every address is reached at the loopback address.
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
