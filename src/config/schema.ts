// The schema of Chandlery's own configuration file: every key with its meaning, its default and the
// values it accepts. Defaults are written as in the file; the output has numbers of milliseconds and
// bytes.
import { isIP } from 'node:net'
import { z } from 'zod'
import { isRegistry, normaliseRegistry } from '../oci/reference.ts'
import { EndpointError, normaliseEndpoint } from '../upstream/routing/endpoint.ts'
import { Proxy, ProxyError } from '../upstream/network/proxy/egress-proxy.ts'
import { Rewrite, RewriteError } from '../upstream/routing/rewrite.ts'
import { checkFreshnessPattern } from './freshness-pattern.ts'
import { parseListenAddress } from './listen-address.ts'
import { Secret } from './secret.ts'
import {
  DURATION_PATTERN,
  formatDuration,
  formatSize,
  MAX_DURATION_MS,
  parseDuration,
  parseSize,
  SIZE_PATTERN,
} from './units.ts'
import { quote, ValueError } from './value-error.ts'

/** The log levels, from most to least urgent. */
export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const

const MIB = 1024 * 1024

/** The longest a timer can wait, in milliseconds: beyond 2^31 ms setTimeout fires at once. */
const MAX_TIMER_MS = 24 * 86_400_000

/** Returns the schema of a string that `parse` turns into a value. Its ValueError becomes a problem. */
function text<T>(example: string, parse: (text: string) => T) {
  const expected = `expected a string such as ${example}`
  return z.string({ error: expected }).transform((written, context) => {
    try {
      return parse(written)
    } catch (error) {
      if (!(error instanceof ValueError)) throw error
      context.addIssue({ code: 'custom', message: error.message })
      return z.NEVER
    }
  })
}

/**
 * Returns the schema of a map with known keys. Callers that allow null allow a map whose keys are all
 * commented out, which YAML reads as null.
 */
function section<S extends z.core.$ZodLooseShape>(shape: S) {
  return z.strictObject(shape, { error: 'expected a map of keys' })
}

function duration(minMs = 0, maxMs = MAX_DURATION_MS) {
  return text('30s or 2h30m', (written) => {
    const ms = parseDuration(written)
    if (ms >= minMs && ms <= maxMs) return ms
    const bounds = `between ${formatDuration(minMs)} and ${formatDuration(maxMs)}`
    throw new ValueError(`${quote(written)} is out of bounds; write a duration ${bounds}`)
  })
}

function size(least: number, most: number) {
  return text('8MiB', (written) => {
    const bytes = parseSize(written)
    if (bytes >= least && bytes <= most) return bytes
    const bounds = `between ${formatSize(least)} and ${formatSize(most)}`
    throw new ValueError(`${quote(written)} is out of bounds; write a size ${bounds}`)
  })
}

function count(least: number, most: number) {
  const error = `expected a whole number between ${least} and ${most}`
  return z.int({ error }).min(least, { error }).max(most, { error })
}

/** The grammar of durations, for editors. */
const described = { pattern: DURATION_PATTERN }

const meta = (description: string) => ({ ...described, description })

const timer = (minMs: number) => duration(minMs, MAX_TIMER_MS)

/** Returns the schema of a limit for one step of an upstream request. */
const timeLimit = () => timer(10)

const flag = () => z.boolean({ error: 'expected true or false' })

const listen = () => text('0.0.0.0:5000', parseListenAddress)

const path = () =>
  text('/etc/chandlery/file', (written) => {
    if (written !== '' && !written.includes('\0')) return written
    throw new ValueError('is empty; write a path, which may be relative to the working directory')
  })

const host = (what: string) =>
  text('registry.example.com:5000', (written) => {
    const name = written.toLowerCase()
    if (isRegistry(name)) return name
    throw new ValueError(
      `${quote(written)} is not a ${what}; write host or host:port, without a scheme or path`,
    )
  })

/** Returns the schema of a key of mirrors or configs. `*` stands for every host without an entry. */
const hostKey = (normalise: (name: string) => string) =>
  text('docker.io', (written) => {
    const name = normalise(written)
    if (written === '*' || isRegistry(name)) return name
    throw new ValueError(
      'is not a registry; write host or host:port without a scheme or path, or "*"',
    )
  })

const lowerCase = (name: string) => name.toLowerCase()

const endpoint = () =>
  text('https://mirror.example.com', (written) => {
    try {
      return { ...normaliseEndpoint(written), written }
    } catch (error) {
      if (error instanceof EndpointError) throw new ValueError(error.message)
      throw error
    }
  })

const secretExpected = 'expected a string (put a number in quotes), {env: NAME} or {file: PATH}'

/** Returns the schema of a literal, {env: NAME} or {file: PATH}. Problems never repeat the value. */
const secret = () =>
  z
    .union(
      [
        z.string().min(1),
        z.strictObject({
          env: z
            .string()
            .regex(/^[A-Za-z_][A-Za-z0-9_]*$/)
            .describe('Environment variable that holds the secret.'),
        }),
        z.strictObject({
          file: z
            .string()
            .min(1)
            .describe(
              'File that holds the secret; one line break at its end is dropped. It is read again when it changes.',
            ),
        }),
      ],
      { error: secretExpected },
    )
    .transform((written) => new Secret(written))

const auth = section({
  username: z
    .string({ error: 'expected a string; put a number in quotes' })
    .optional()
    .describe('User name.'),
  password: secret().optional().describe('Password or access token of the user.'),
  auth: secret().optional().describe('Base64 of "username:password", as in a docker config.json.'),
  identity_token: secret()
    .optional()
    .describe('Identity (refresh) token, exchanged for access tokens.'),
  realms: z
    .array(host('token server'), { error: 'expected a list of hosts' })
    .optional()
    .describe(
      "Hosts of token servers outside the registry's own domain that may see the credential.",
    ),
}).superRefine((value, context) => {
  const refuse = (key: string, message: string) =>
    context.addIssue({ code: 'custom', path: [key], message })
  if (value.password && !value.username) refuse('password', 'needs a username; add username')
  if (value.username && !value.password && !value.auth && !value.identity_token) {
    refuse('username', 'needs a password; add password')
  }
})

const clientTls = section({
  ca_file: path()
    .optional()
    .describe("PEM file of the CAs to trust for this host, in addition to the system's."),
  cert_file: path().optional().describe('PEM file of the client certificate; needs key_file.'),
  key_file: path()
    .optional()
    .describe("PEM file of the client certificate's key; needs cert_file."),
  insecure_skip_verify: flag()
    .optional()
    .describe(
      'Accept any certificate. It never turns https into http: plain HTTP is written http:// in the endpoint.',
    ),
}).superRefine((value, context) => {
  const refuse = (key: string, other: string) =>
    context.addIssue({
      code: 'custom',
      path: [key],
      message: `needs ${other}; add ${other}`,
    })
  if (value.cert_file && !value.key_file) refuse('cert_file', 'key_file')
  if (value.key_file && !value.cert_file) refuse('key_file', 'cert_file')
})

/** Returns the schema of a DNS server: address[:port]. */
const dnsServer = () =>
  text('192.0.2.53', (written) => {
    const [, bracketed, plain, port = '53'] =
      /^(?:\[(.*)\]|([^:]*))(?::(\d{1,5}))?$/.exec(written) ?? []
    const address = isIP(written) === 0 ? (bracketed ?? plain ?? '') : written
    if (isIP(address) !== 0 && Number(port) > 0 && Number(port) < 65_536) return written
    throw new ValueError(
      `${quote(written)} is not an address; write 192.0.2.53 or [2001:db8::53]:53`,
    )
  })

/** Returns the schema of a proxy. Problems never repeat its password. */
const proxy = () =>
  text('http://proxy.example.com:3128', (written) => {
    if (written === 'direct') return 'direct' as const
    try {
      return new Proxy(written)
    } catch (error) {
      if (!(error instanceof ProxyError)) throw error
      const cure = 'write http://, https:// or socks5://[user:password@]host:port, or direct'
      throw new ValueError(`${error.message}; ${cure}`)
    }
  })

const PIECE = 'Size of the part of a blob that one request asks for.'
const CONNECT = 'Limit for connecting to an upstream, TLS handshake included.'
const FIRST_BYTE = 'Limit from sending a request to an upstream to the head of its response.'
const STALL =
  'Limit between two chunks of a body from an upstream. There is no limit for a whole body.'

const CONNECTIONS =
  'Concurrent requests for one blob from an upstream that is far away and supports Range.'
const MAX_CONNECTIONS =
  'Maximum number of concurrent requests for one blob, used if more requests increase the throughput.'

const pieceSize = () => size(MIB, 1024 * MIB)
const connectionCount = () => count(1, 64)

const hostConfig = section({
  auth: z
    .union([auth, z.array(auth).min(1)])
    .nullable()
    .optional()
    .describe('Credential for this host, or a list: the one with the most requests left is used.'),
  tls: clientTls.nullable().optional().describe('TLS towards this host, as in K3s.'),
  resolve: z
    .array(
      text('203.0.113.7', (written) => {
        if (isIP(written)) return written
        throw new ValueError(
          `${quote(written)} is not an IP address; write one such as 203.0.113.7 or 2001:db8::7`,
        )
      }),
      { error: 'expected a list of IP addresses' },
    )
    .optional()
    .describe('Addresses to use instead of asking DNS.'),
  proxy: proxy()
    .optional()
    .describe(
      'Proxy for this host and for its token server and redirects: http://, https:// or socks5://[user:password@]host:port, or "direct" for none. Default: the proxy from the environment.',
    ),
  fetch: section({
    piece: pieceSize().optional().meta({ pattern: SIZE_PATTERN, description: PIECE }),
    connections: connectionCount().optional().describe(CONNECTIONS),
    maxConnections: connectionCount().optional().describe(MAX_CONNECTIONS),
  })
    .nullable()
    .optional()
    .describe('How blobs are fetched from this host. Missing keys are taken from fetch.'),
  timeouts: section({
    connect: timeLimit().optional().meta(meta(CONNECT)),
    firstByte: timeLimit().optional().meta(meta(FIRST_BYTE)),
    stall: timeLimit().optional().meta(meta(STALL)),
  })
    .nullable()
    .optional()
    .describe(
      'Limits for this host, and for its token server and redirect targets without limits of their own. Missing keys are taken from timeouts.',
    ),
})

/** Compiles each rule on its own. How rules interact is checked in lint.ts. */
function compileRules(
  rules: Readonly<Record<string, string>>,
  context: z.RefinementCtx,
): Record<string, Rewrite> {
  const compiled: Record<string, Rewrite> = {}
  for (const [pattern, replacement] of Object.entries(rules)) {
    try {
      compiled[pattern] = new Rewrite(pattern, replacement)
    } catch (error) {
      if (!(error instanceof RewriteError)) throw error
      const { message } = error
      context.addIssue({ code: 'custom', path: [pattern], message, params: { at: 'key' } })
    }
  }
  return compiled
}

const rulesExpected =
  'expected a map of patterns and replacements, such as {"^cp/(.+)$": "team/$1"}, or a list of such maps'

const rules = () =>
  z
    .record(z.string(), z.string({ error: 'expected a string; put the replacement in quotes' }), {
      error: rulesExpected,
    })
    .transform(compileRules)

const mirror = section({
  endpoint: z
    .array(endpoint(), { error: 'expected a list of URLs, such as ["https://mirror.example.com"]' })
    .nullable()
    .optional()
    .describe(
      "Where to fetch from, in this order. The registry's own endpoint comes last (see defaultEndpoints). A path other than /v2 is used unchanged.",
    ),
  rewrite: z
    .union([rules(), z.array(rules(), { error: rulesExpected })])
    .nullable()
    .optional()
    .describe(
      "Map from regular expression (Go syntax) to replacement ($1, ${1}, ${name}). The rules are tried in this order on the repository name without registry and tag; the first one that changes the name wins. They are not applied to the registry's own endpoint. Use a list of such maps with tools that sort the keys of maps.",
    ),
  hosts: z
    .array(host('host'), { error: 'expected a list of host names' })
    .nullable()
    .optional()
    .describe('Requests with one of these Host headers are for this registry.'),
})

const staleIfError = () =>
  z.union([z.literal('forever'), duration().meta(described)], {
    error: 'expected forever or a duration such as 24h',
  })

const whenGone = () => z.enum(['serve', 'refuse'], { error: 'expected serve or refuse' })

const freshnessRule = section({
  match: text('docker.io/library/*:latest', checkFreshnessPattern).describe(
    'Pattern for registry/repository:tag, with * (within a component) and ** (across components).',
  ),
  ttl: duration().optional().meta(meta('ttl for matching tags.')),
  staleWhileRevalidate: duration().optional().meta(meta('staleWhileRevalidate for matching tags.')),
  revalidateTimeout: timer(1).optional().meta(meta('revalidateTimeout for matching tags.')),
  staleIfError: staleIfError().optional().describe('staleIfError for matching tags.'),
  whenGone: whenGone().optional().describe('whenGone for matching tags.'),
  negativeTtl: duration().optional().meta(meta('negativeTtl for matching tags.')),
})

const freshness = section({
  ttl: duration()
    .prefault('1m')
    .meta(meta('How long a tag is served without asking the upstream whether it has moved.')),
  staleWhileRevalidate: duration()
    .prefault('0s')
    .meta(
      meta(
        'How long after ttl cached content is served at once while the upstream is asked in the background.',
      ),
    ),
  revalidateTimeout: timer(1)
    .prefault('2s')
    .meta(
      meta(
        'How long a request waits for the upstream if something is cached. After that, the cached content is served and the revalidation continues in the background.',
      ),
    ),
  staleIfError: staleIfError()
    .prefault('forever')
    .describe(
      'How long after ttl cached content is served while the upstream fails: forever or a duration.',
    ),
  whenGone: whenGone()
    .prefault('serve')
    .describe(
      'What to do if the upstream answers 404 for cached content: serve it anyway, or refuse.',
    ),
  negativeTtl: duration()
    .prefault('10s')
    .meta(meta('How long a 404 from the upstream is remembered.')),
  rules: z
    .array(freshnessRule, { error: 'expected a list of {match, ttl}' })
    .nullable()
    .prefault([])
    .describe('Different values for some tags. The first rule that matches wins.'),
})

/** The schema of the configuration file. Its input is the file as written, its output is converted. */
export const fileSchema = section({
  listen: listen()
    .prefault('0.0.0.0:5000')
    .describe('Address of the registry API: host:port, :port or [v6]:port.'),
  tls: section({
    certFile: path().describe(
      'PEM file of the certificate with its chain. It is read again when it changes.',
    ),
    keyFile: path().describe("PEM file of the certificate's key."),
  })
    .nullable()
    .optional()
    .describe('Serve the registry API over HTTPS.'),
  admin: section({
    listen: listen()
      .prefault('127.0.0.1:5001')
      .describe('Address of /metrics, /healthz and /readyz.'),
    token: secret()
      .optional()
      .describe(
        'Token (Authorization: Bearer) that allows requests which change state, such as POST /-/reload. Without it only requests from this machine are allowed to.',
      ),
  })
    .nullable()
    .prefault({})
    .describe('The administration listener.'),
  storage: section({
    driver: z
      .enum(['filesystem'], { error: 'expected filesystem' })
      .prefault('filesystem')
      .describe('Kind of storage.'),
    directory: path()
      .prefault('./data')
      .describe('Directory for the content. A relative path is relative to the working directory.'),
  })
    .nullable()
    .prefault({})
    .describe('Where content is stored.'),
  defaultRegistry: host('registry')
    .transform(normaliseRegistry)
    .prefault('docker.io')
    .describe('Registry for requests that name none.'),
  defaultEndpoints: flag()
    .prefault(true)
    .describe(
      "Try a registry's own endpoint after the listed ones (false corresponds to K3s's disable-default-registry-endpoint).",
    ),
  mirrors: z
    .record(hostKey(normaliseRegistry), mirror.nullable(), {
      error: 'expected a map of registries',
    })
    .nullable()
    .optional()
    .describe(
      'The registries to serve, as in K3s\'s registries.yaml; "*" stands for every other one. Replaces the built-in list.',
    ),
  configs: z
    .record(hostKey(lowerCase), hostConfig.nullable(), { error: 'expected a map of hosts' })
    .nullable()
    .optional()
    .describe(
      'Credentials and connection settings by host[:port] of an endpoint, as in K3s\'s registries.yaml; "*" stands for every other one.',
    ),
  dockerConfig: z
    .union([path(), z.array(path()).min(1)])
    .transform((written) => (Array.isArray(written) ? written : [written]))
    .optional()
    .describe(
      'A docker config.json with auths, credHelpers or credsStore, or a list of them: the first one with a credential for a host wins. They are read again when they change.',
    ),
  freshness: freshness
    .nullable()
    .prefault({})
    .describe('How long tags are served without asking the upstream. A digest never goes stale.'),
  fetch: section({
    piece: pieceSize().prefault('8MiB').meta({ pattern: SIZE_PATTERN, description: PIECE }),
    connections: connectionCount().prefault(4).describe(CONNECTIONS),
    maxConnections: connectionCount().prefault(16).describe(MAX_CONNECTIONS),
    fill: z
      .enum(['onFullRead', 'always'], { error: 'expected onFullRead or always' })
      .prefault('onFullRead')
      .describe('Whether to fetch a whole blob if clients read only parts of it.'),
    partialTtl: timer(0)
      .prefault('24h')
      .meta(meta('How long an interrupted download is kept, so that it can be resumed.')),
  })
    .nullable()
    .prefault({})
    .describe('How blobs are fetched from upstreams.'),
  timeouts: section({
    connect: timeLimit().prefault('10s').meta(meta(CONNECT)),
    firstByte: timeLimit().prefault('30s').meta(meta(FIRST_BYTE)),
    stall: timeLimit().prefault('15s').meta(meta(STALL)),
  })
    .nullable()
    .prefault({})
    .describe('Time limits for upstreams.'),
  dns: section({
    servers: z
      .array(dnsServer(), { error: 'expected a list of IP addresses' })
      .nullable()
      .optional()
      .describe("DNS servers to ask instead of the system's resolver, as address or address:port."),
  })
    .nullable()
    .optional()
    .describe('How the host names of upstreams are resolved.'),
  health: section({
    probe: z
      .union([z.literal('off'), timer(1000).meta(described)], {
        error: 'expected off or a duration such as 30s',
      })
      .prefault('off')
      .describe(
        'How often each endpoint is probed in the background, so that a failure is noticed before a request meets it. "off" disables probing.',
      ),
  })
    .nullable()
    .optional()
    .describe('How the health of endpoints is checked.'),
  clientStallTimeout: timer(1000)
    .prefault('10m')
    .meta(meta('How long a client may read nothing before it is disconnected.')),
  shutdownDelay: timer(0)
    .prefault('0s')
    .meta(
      meta(
        'How long requests are still accepted after SIGTERM while /readyz already answers 503, so that load balancers notice.',
      ),
    ),
  shutdownTimeout: timer(0)
    .prefault('30s')
    .meta(meta('How long responses in progress may take after SIGTERM and shutdownDelay.')),
  log: section({
    level: z
      .enum(LOG_LEVELS, { error: `expected one of ${LOG_LEVELS.join(', ')}` })
      .prefault('info')
      .describe('The least urgent level to log.'),
  })
    .nullable()
    .prefault({})
    .describe('The log, JSON lines on standard output.'),
})

/** The output of fileSchema. */
export type FileContent = z.output<typeof fileSchema>
