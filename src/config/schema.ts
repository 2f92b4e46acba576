// The shape of our own configuration file: every key, its meaning, its default, and what it
// accepts. Defaults are written as in the file; what comes out has milliseconds and no nulls.
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

/** The levels of the log, most to least urgent. */
export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const

const MIB = 1024 * 1024

/** What a timer can wait for: setTimeout fires at once beyond 2^31 ms. */
const MAX_TIMER_MS = 24 * 86_400_000

/** A text that `parse` turns into a value; its ValueError becomes the problem's message. */
function text<T>(example: string, parse: (text: string) => T) {
  const expected = `expected a text such as ${example}`
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

/** A map of our own keys; all of them may be commented out, which YAML reads as null. */
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

/** The grammar of a duration, for editors. */
const described = { pattern: DURATION_PATTERN }

const meta = (description: string) => ({ ...described, description })

const timer = (minMs: number) => duration(minMs, MAX_TIMER_MS)

/** Of the way to an upstream. */
const timeLimit = () => timer(10)

const flag = () => z.boolean({ error: 'expected true or false' })

const listen = () => text('0.0.0.0:5000', parseListenAddress)

const path = () =>
  text('/etc/chandlery/file', (written) => {
    if (written !== '' && !written.includes('\0')) return written
    throw new ValueError('is empty; write the path of a file, relative to the working directory')
  })

const host = (what: string) =>
  text('registry.example.com:5000', (written) => {
    const name = written.toLowerCase()
    if (isRegistry(name)) return name
    throw new ValueError(
      `${quote(written)} is no ${what}; write host or host:port, without a scheme or path`,
    )
  })

/** A key of mirrors or configs; `*` is every host without an entry of its own. */
const hostKey = (normalise: (name: string) => string) =>
  text('docker.io', (written) => {
    const name = normalise(written)
    if (written === '*' || isRegistry(name)) return name
    throw new ValueError('is no registry; write host or host:port without a scheme or path, or "*"')
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

const secretExpected = 'expected a text (a number in quotes), {env: NAME} or {file: PATH}'

/** A literal, {env: NAME} or {file: PATH}; its problems never repeat what was written. */
const secret = () =>
  z
    .union(
      [
        z.string().min(1),
        z.strictObject({
          env: z
            .string()
            .regex(/^[A-Za-z_][A-Za-z0-9_]*$/)
            .describe('Environment variable that holds it.'),
        }),
        z.strictObject({
          file: z
            .string()
            .min(1)
            .describe(
              'File that holds it; one line break at its end is dropped. Read again when it changes.',
            ),
        }),
      ],
      { error: secretExpected },
    )
    .transform((written) => new Secret(written))

const auth = section({
  username: z
    .string({ error: 'expected a text; put a number into quotes' })
    .optional()
    .describe('User name.'),
  password: secret().optional().describe('Password or access token of the user.'),
  auth: secret().optional().describe('base64 of "username:password", as in a docker config.json.'),
  identity_token: secret()
    .optional()
    .describe('Identity (refresh) token, exchanged for access tokens.'),
  realms: z
    .array(host('token server'), { error: 'expected a list of hosts' })
    .optional()
    .describe(
      "Hosts of token servers that may see the credential, besides those of the registry's own domain.",
    ),
}).superRefine((value, context) => {
  const refuse = (key: string, message: string) =>
    context.addIssue({ code: 'custom', path: [key], message })
  if (value.password && !value.username)
    refuse('password', 'has no username beside it; add username')
  if (value.username && !value.password && !value.auth && !value.identity_token) {
    refuse('username', 'has no password beside it; add password')
  }
})

const clientTls = section({
  ca_file: path()
    .optional()
    .describe("PEM file of the authorities trusted for this host, besides the system's."),
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
      message: `has no ${other} beside it; add ${other}`,
    })
  if (value.cert_file && !value.key_file) refuse('cert_file', 'key_file')
  if (value.key_file && !value.cert_file) refuse('key_file', 'cert_file')
})

/** An address[:port] of a DNS server. */
const dnsServer = () =>
  text('192.0.2.53', (written) => {
    const [, bracketed, plain, port = '53'] =
      /^(?:\[(.*)\]|([^:]*))(?::(\d{1,5}))?$/.exec(written) ?? []
    const address = isIP(written) === 0 ? (bracketed ?? plain ?? '') : written
    if (isIP(address) !== 0 && Number(port) > 0 && Number(port) < 65_536) return written
    throw new ValueError(`${quote(written)} is no address; write 192.0.2.53 or [2001:db8::53]:53`)
  })

/** Its password is never repeated. */
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

const PIECE = 'What one request for a part of a blob asks for.'
const CONNECT = 'Towards upstreams: for a connection, TLS included.'
const FIRST_BYTE = 'Towards upstreams: from a request to the head of its answer.'
const STALL = 'Towards upstreams: between two pieces of a body. There is no limit for the whole.'

const CONNECTIONS = 'Requests at once for one blob from a far upstream that honours Range.'
const MOST_CONNECTIONS = 'The most of them, where more prove to bring more.'

const pieceSize = () => size(MIB, 1024 * MIB)
const connectionCount = () => count(1, 64)

const hostConfig = section({
  auth: z
    .union([auth, z.array(auth).min(1)])
    .nullable()
    .optional()
    .describe('Credential for this host; of several, the one with most requests left is used.'),
  tls: clientTls.nullable().optional().describe('TLS towards this host; as in K3s.'),
  resolve: z
    .array(
      text('203.0.113.7', (written) => {
        if (isIP(written)) return written
        throw new ValueError(
          `${quote(written)} is no IP address; write one such as 203.0.113.7 or 2001:db8::7`,
        )
      }),
      { error: 'expected a list of IP addresses' },
    )
    .optional()
    .describe('Addresses to use instead of asking DNS.'),
  proxy: proxy()
    .optional()
    .describe(
      "Proxy towards this host and what it leads to: http://, https:// or socks5://[user:password@]host:port; direct: none. Default: the environment's.",
    ),
  fetch: section({
    piece: pieceSize().optional().meta({ pattern: SIZE_PATTERN, description: PIECE }),
    connections: connectionCount().optional().describe(CONNECTIONS),
    maxConnections: connectionCount().optional().describe(MOST_CONNECTIONS),
  })
    .nullable()
    .optional()
    .describe('How blobs are fetched from this host; what is left out is as in fetch.'),
  timeouts: section({
    connect: timeLimit().optional().meta(meta(CONNECT)),
    firstByte: timeLimit().optional().meta(meta(FIRST_BYTE)),
    stall: timeLimit().optional().meta(meta(STALL)),
  })
    .nullable()
    .optional()
    .describe(
      'How long this host may take, and what it leads to that has no limits of its own; what is left out is as in timeouts.',
    ),
})

/** Compiles each rule on its own; how they go together is linted. */
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
    .record(z.string(), z.string({ error: 'expected a text; put the replacement into quotes' }), {
      error: rulesExpected,
    })
    .transform(compileRules)

const mirror = section({
  endpoint: z
    .array(endpoint(), { error: 'expected a list of URLs, such as ["https://mirror.example.com"]' })
    .nullable()
    .optional()
    .describe(
      "Where to fetch from, in this order; the registry's own endpoint comes last (see defaultEndpoints). A path other than /v2 is used as it stands.",
    ),
  rewrite: z
    .union([rules(), z.array(rules(), { error: rulesExpected })])
    .nullable()
    .optional()
    .describe(
      "Regular expression (Go syntax) to replacement ($1, ${1}, ${name}), tried in this order on the repository name without registry and tag; the first that changes it wins. Not applied to the registry's own endpoint. Also a list of such maps, for tools that sort the keys of maps.",
    ),
  hosts: z
    .array(host('host'), { error: 'expected a list of host names' })
    .nullable()
    .optional()
    .describe('Host headers of requests that mean this registry.'),
})

const staleIfError = () =>
  z.union([z.literal('forever'), duration().meta(described)], {
    error: 'expected forever or a duration such as 24h',
  })

const whenGone = () => z.enum(['serve', 'refuse'], { error: 'expected serve or refuse' })

const freshnessRule = section({
  match: text('docker.io/library/*:latest', checkFreshnessPattern).describe(
    'registry/repository:tag with * (within a component) and ** (across components).',
  ),
  ttl: duration().optional().meta(meta('ttl of the tags it matches.')),
  staleWhileRevalidate: duration()
    .optional()
    .meta(meta('staleWhileRevalidate of the tags it matches.')),
  revalidateTimeout: timer(1).optional().meta(meta('revalidateTimeout of the tags it matches.')),
  staleIfError: staleIfError().optional().describe('staleIfError of the tags it matches.'),
  whenGone: whenGone().optional().describe('whenGone of the tags it matches.'),
  negativeTtl: duration().optional().meta(meta('negativeTtl of the tags it matches.')),
})

const freshness = section({
  ttl: duration()
    .prefault('1m')
    .meta(meta('A tag is answered for so long without asking the upstream whether it moved.')),
  staleWhileRevalidate: duration()
    .prefault('0s')
    .meta(
      meta(
        'For so long after ttl, the held content is answered at once and the upstream asked behind it.',
      ),
    ),
  revalidateTimeout: timer(1)
    .prefault('2s')
    .meta(
      meta(
        'While something is held, wait so long for the upstream, then answer what is held and go on behind it.',
      ),
    ),
  staleIfError: staleIfError()
    .prefault('forever')
    .describe(
      'For so long after ttl, held content is answered while the upstream fails: forever or a duration.',
    ),
  whenGone: whenGone()
    .prefault('serve')
    .describe('The upstream says 404 to what is held: serve it all the same, or refuse.'),
  negativeTtl: duration()
    .prefault('10s')
    .meta(meta('A 404 of the upstream is remembered for so long.')),
  rules: z
    .array(freshnessRule, { error: 'expected a list of {match, ttl}' })
    .nullable()
    .prefault([])
    .describe('Other values for some tags; the first rule that matches wins.'),
})

/** The configuration file, as written on its input side, checked and converted on its output. */
export const fileSchema = section({
  listen: listen()
    .prefault('0.0.0.0:5000')
    .describe('Address of the registry API: host:port, :port or [v6]:port.'),
  tls: section({
    certFile: path().describe(
      'PEM file of the certificate, with its chain; read again when it changes.',
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
        'Who sends it (Authorization: Bearer) may change state, such as by POST /-/reload; without it only who is on this machine.',
      ),
  })
    .nullable()
    .prefault({})
    .describe('The administration listener.'),
  storage: section({
    driver: z
      .enum(['filesystem'], { error: 'expected filesystem' })
      .prefault('filesystem')
      .describe('Where content is kept.'),
    directory: path()
      .prefault('./data')
      .describe('Directory of the content; relative to the working directory.'),
  })
    .nullable()
    .prefault({})
    .describe('Where content is kept.'),
  defaultRegistry: host('registry')
    .transform(normaliseRegistry)
    .prefault('docker.io')
    .describe('Registry of requests that name none.'),
  defaultEndpoints: flag()
    .prefault(true)
    .describe(
      "Try a registry's own endpoint after the listed ones (false is K3s's disable-default-registry-endpoint).",
    ),
  mirrors: z
    .record(hostKey(normaliseRegistry), mirror.nullable(), {
      error: 'expected a map of registries',
    })
    .nullable()
    .optional()
    .describe(
      'The registries served, as in K3s\'s registries.yaml; "*" is every other one. Replaces the built-in list.',
    ),
  configs: z
    .record(hostKey(lowerCase), hostConfig.nullable(), { error: 'expected a map of hosts' })
    .nullable()
    .optional()
    .describe(
      'Credentials and connections by endpoint host[:port], as in K3s\'s registries.yaml; "*" is every other one.',
    ),
  dockerConfig: z
    .union([path(), z.array(path()).min(1)])
    .transform((written) => (Array.isArray(written) ? written : [written]))
    .optional()
    .describe(
      'A docker config.json with auths, credHelpers or credsStore, or a list of them: the first that has a credential for a host wins. Read again when they change.',
    ),
  freshness: freshness
    .nullable()
    .prefault({})
    .describe('How long it is trusted which content a tag means. A digest never goes stale.'),
  fetch: section({
    piece: pieceSize().prefault('8MiB').meta({ pattern: SIZE_PATTERN, description: PIECE }),
    connections: connectionCount().prefault(4).describe(CONNECTIONS),
    maxConnections: connectionCount().prefault(16).describe(MOST_CONNECTIONS),
    fill: z
      .enum(['onFullRead', 'always'], { error: 'expected onFullRead or always' })
      .prefault('onFullRead')
      .describe('Whether a blob of which only parts are read is fetched as a whole.'),
    partialTtl: timer(0)
      .prefault('24h')
      .meta(meta('What is left of a download that broke off is kept for so long, to go on with.')),
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
    .describe('How long upstreams may take.'),
  dns: section({
    servers: z
      .array(dnsServer(), { error: 'expected a list of IP addresses' })
      .nullable()
      .optional()
      .describe("DNS servers to ask instead of the system's resolver, as address or address:port."),
  })
    .nullable()
    .optional()
    .describe("How upstreams' names are resolved."),
  health: section({
    probe: z
      .union([z.literal('off'), timer(1000).meta(described)], {
        error: 'expected off or a duration such as 30s',
      })
      .prefault('off')
      .describe(
        'Ask every endpoint so often in the background whether it answers, so that no request has to find out.',
      ),
  })
    .nullable()
    .optional()
    .describe('How it is found out which endpoints can be used.'),
  clientStallTimeout: timer(1000)
    .prefault('10m')
    .meta(meta('A client that takes no byte for so long is dropped.')),
  shutdownDelay: timer(0)
    .prefault('0s')
    .meta(
      meta(
        'On SIGTERM, requests are still taken for so long while /readyz is 503 already, so that balancers can see it.',
      ),
    ),
  shutdownTimeout: timer(0)
    .prefault('30s')
    .meta(meta('On SIGTERM, after shutdownDelay, running responses may go on for so long.')),
  log: section({
    level: z
      .enum(LOG_LEVELS, { error: `expected one of ${LOG_LEVELS.join(', ')}` })
      .prefault('info')
      .describe('Least urgent level that is logged.'),
  })
    .nullable()
    .prefault({})
    .describe('The log, JSON lines on standard output.'),
})

/** What fileSchema gives. */
export type FileContent = z.output<typeof fileSchema>
