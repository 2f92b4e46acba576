// Checks what is visible from outside besides pulls: token requests, metrics, refused pushes.
import type { Chandlery } from './chandlery.ts'
import { tryRun } from './processes.ts'
import type { Report } from './report.ts'
import { skopeoPull, skopeoPush } from './skopeo.ts'
import type { World } from './world.ts'

/** Every token request so far named exactly one scope: the rewritten repository's. */
export async function checkTokenRequests(report: Report, { tokens, images }: World): Promise<void> {
  const expected = new Set(images.map((image) => `repository:${image.repository}:pull`))
  const sentence = 'each token request has exactly one scope, that of the rewritten repository'
  await report.check(sentence, async () => {
    const wrong = tokens.requests.filter(
      (r) => r.scopes.length !== 1 || !expected.has(r.scopes[0] ?? ''),
    )
    if (wrong.length > 0)
      throw new Error(wrong.map((r) => `${r.method} ${r.scopes.join(' + ')}`).join('\n'))
    const asked = new Set(tokens.requests.flatMap((r) => r.scopes))
    const never = [...expected].filter((scope) => !asked.has(scope))
    if (never.length > 0) throw new Error(`never asked for: ${never.join(', ')}`)
  })
  await report.check(
    'the credential went to the token server, and only for its own registry',
    async () => {
      for (const { scopes, username, status } of tokens.requests) {
        const own = scopes[0]?.startsWith('repository:mirror/') ?? false
        if (own !== (username !== undefined) && status === 200) {
          throw new Error(`${scopes.join()} was asked for by ${username ?? 'nobody'}`)
        }
      }
    },
  )
}

/** /metrics as Prometheus' own linter sees it. */
export async function checkMetrics(report: Report, chandlery: Chandlery): Promise<void> {
  await report.check('promtool finds nothing wrong with /metrics', async () => {
    const response = await fetch(`${chandlery.adminUrl}/metrics`)
    const metrics = await response.text()
    if (!metrics.includes('chandlery_'))
      throw new Error(`no metrics of ours:\n${metrics.slice(0, 500)}`)
    const { code, stdout, stderr } = await tryRun('promtool', ['check', 'metrics'], {
      input: metrics,
    })
    if (code !== 0 || stdout + stderr !== '')
      throw new Error(`promtool ended with ${code}:\n${stdout}${stderr}`)
  })
}

/** Pushes are refused as the specification has it, and skopeo understands that. */
export async function checkReadOnly(
  report: Report,
  chandlery: Chandlery,
  { images }: World,
  directory: string,
): Promise<void> {
  await report.check('a push is refused with 405 UNSUPPORTED and Allow', async () => {
    const response = await fetch(`${chandlery.url}/v2/hub.test/cp/app/blobs/uploads/`, {
      method: 'POST',
    })
    const body = await response.text()
    const allow = response.headers.get('allow') ?? ''
    if (response.status !== 405 || !body.includes('"UNSUPPORTED"') || !allow.includes('GET')) {
      throw new Error(`${response.status}, Allow: ${allow}, ${body}`)
    }
  })
  await report.check('skopeo cannot push', async () => {
    const source = images[0]
    if (!source) throw new Error('no image')
    await skopeoPull(`${chandlery.host}/${source.name}:${source.tag}`, directory, false)
    // An open registry that lacks all of it: skopeo looks for blobs before it uploads them.
    const { code, stderr } = await skopeoPush(directory, `${chandlery.host}/slow.test/new:v1`)
    if (code === 0 || !/unsupported|405/i.test(stderr))
      throw new Error(`skopeo ended with ${code}: ${stderr}`)
  })
}
