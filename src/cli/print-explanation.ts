// Prints an explanation: aligned lines for people, or JSON.
import { formatDuration } from '../config/units.ts'
import type { CredentialSummary } from '../upstream/credentials/summary.ts'
import type { ExplainedEndpoint, ExplainedHolding, Explanation, HostSummary } from './explain.ts'

/** Writes the explanation as text or, with `json`, as one JSON document. */
export function printExplanation(
  explanation: Explanation,
  options: { readonly json: boolean; readonly write: (text: string) => void },
): void {
  if (options.json) options.write(`${JSON.stringify(explanation, undefined, 2)}\n`)
  else options.write(formatExplanation(explanation))
}

type Line = readonly [label: string, text: string | undefined]

function formatExplanation(explanation: Explanation): string {
  const { registry, repository, tag, digest, freshness, endpoints, held } = explanation
  const rule = freshness?.rule === undefined ? '' : `, from rule ${quote(freshness.rule)}`
  const head = formatLines([
    ['registry', registry],
    ['repository', repository],
    ['tag', tag],
    ['digest', digest],
    ['freshness', freshness && `${formatDuration(freshness.ttlMs)}${rule}`],
    ['freshness', freshness ? undefined : 'a digest never goes stale'],
  ])
  const asked = endpoints.map((endpoint, index) => `\n${formatEndpoint(endpoint, index + 1)}`)
  return [head, ...asked, ...(held ? [`\n${formatHolding(held)}`] : [])].join('')
}

function formatEndpoint(endpoint: ExplainedEndpoint, place: number): string {
  const { rule, own, passedOver } = endpoint
  const unchanged = own ? "none: this is the registry's own endpoint" : 'none'
  const title = `${place}. ${endpoint.endpoint}\n`
  const lines: Line[] = [
    ...passedOver.map((each): Line => [
      'skipped',
      `${formatRule(each)}: ${quote(each.result)} is not a repository name`,
    ]),
    ['rewrite', rule ? formatRule(rule) : unchanged],
    ['name', endpoint.name],
    ['scope', endpoint.scope],
    ['url', endpoint.url],
    ['credentials', formatCredentials(endpoint.credentials)],
    ['tls', formatTls(endpoint)],
    ['proxy', formatProxy(endpoint.proxy)],
    ['addresses', endpoint.resolve?.join(', ')],
    ['timeouts', formatTimeouts(endpoint.timeouts)],
  ]
  return title + formatLines(lines, '   ')
}

function formatRule(rule: { readonly pattern: string; readonly replacement: string }): string {
  return `${quote(rule.pattern)} → ${quote(rule.replacement)}`
}

function formatCredentials(credentials: HostSummary['credentials']): string {
  if (credentials === undefined) return 'none (anonymous)'
  const { all, problem } = credentials
  const from = printable(credentials.from)
  if (problem !== undefined) return `unknown: cannot read ${from}: ${printable(problem)}`
  if (all.length === 0) return `none (anonymous; ${from} has none)`
  const [first] = all
  // A helper is asked first; stored credentials are used if it has none.
  const separator = first?.kind === 'credential helper' ? ', else ' : ', '
  const choice =
    credentials.choice === undefined ? '' : ': the one with the most requests left is used'
  return `${all.map(formatCredential).join(separator)} (${from}${choice})`
}

function formatProxy(proxy: HostSummary['proxy']): string {
  if (proxy === undefined) return 'none'
  return `${proxy.url === 'direct' ? 'none' : printable(proxy.url)} (${printable(proxy.from)})`
}

function formatTimeouts(timeouts: HostSummary['timeouts']): string | undefined {
  if (timeouts === undefined) return undefined
  const { connectMs, firstByteMs, stallMs, from } = timeouts
  const parts = [
    connectMs === undefined ? undefined : `connect ${formatDuration(connectMs)}`,
    firstByteMs === undefined ? undefined : `firstByte ${formatDuration(firstByteMs)}`,
    stallMs === undefined ? undefined : `stall ${formatDuration(stallMs)}`,
  ]
  return `${parts.filter((part) => part !== undefined).join(', ')} (${from})`
}

function formatCredential(credential: CredentialSummary): string {
  if (credential.kind === 'credential helper') return `from ${printable(credential.program)}`
  const { kind, username } = credential
  return username === undefined ? kind : `${kind} of ${quote(username)}`
}

function formatTls({ endpoint, tls }: ExplainedEndpoint): string {
  const plain = endpoint.startsWith('http:')
  if (plain)
    return tls === undefined ? 'none: plain HTTP' : `none: plain HTTP; ${tls.from} is not used`
  if (tls === undefined) return "the system's CAs"
  const parts = [
    tls.insecureSkipVerify ? 'certificates are not checked' : undefined,
    tls.caFile === undefined ? undefined : `ca_file ${quote(tls.caFile)}`,
    tls.certFile === undefined ? undefined : `client certificate ${quote(tls.certFile)}`,
  ]
  return `${parts.filter((part) => part !== undefined).join(', ') || 'nothing set'} (${tls.from})`
}

function formatHolding({ tag, manifest, parts }: ExplainedHolding): string {
  const size = manifest && `${manifest.size.toLocaleString('en')} bytes of ${manifest.mediaType}`
  return `held\n${formatLines(
    [
      ['tag', tag && `${tag.digest}, ${formatAge(tag.ageMs)}, ${tag.fresh ? 'fresh' : 'expired'}`],
      ['manifest', size ?? 'none'],
      ['parts', parts && `${parts.held} of ${parts.named} ${parts.of}`],
    ],
    '   ',
  )}`
}

function formatAge(ageMs: number): string {
  if (ageMs < 0) return 'checked in the future (the clock was set back)'
  return `checked ${formatDuration(Math.floor(ageMs / 1000) * 1000)} ago`
}

function formatLines(lines: readonly Line[], indent = ''): string {
  return lines
    .filter(([, text]) => text !== undefined)
    .map(([label, text]) => `${indent}${label.padEnd(13)}${text}\n`)
    .join('')
}

/** Quotes text from a file, with control characters escaped: a terminal would obey them. */
function quote(text: string): string {
  return printable(JSON.stringify(text))
}

function printable(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, (control) => {
    return `\\u00${control.charCodeAt(0).toString(16).padStart(2, '0')}`
  })
}
