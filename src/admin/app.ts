// The admin API on a port of its own: /metrics, /healthz, /readyz and /-/reload.
import { fastify, type FastifyInstance, type FastifyReply } from 'fastify'
import { addReload, type ReloadOptions } from './reload.ts'

const TEXT = 'text/plain; charset=utf-8'

export interface AdminOptions {
  readonly metrics: { readonly contentType: string; exposition(): Promise<string> }
  readonly readiness: { readonly ready: boolean; readonly reasons: readonly string[] }
  /** More lines for /readyz?verbose. */
  readonly details?: () => readonly string[]
  readonly reload?: ReloadOptions
}

export function createAdminApp(options: AdminOptions): FastifyInstance {
  const { metrics } = options
  const app = fastify({ return503OnClosing: false, bodyLimit: 1024 * 1024 })
  app.get('/metrics', async (_request, reply) => {
    const text = await metrics.exposition()
    return reply.type(metrics.contentType).send(text)
  })
  // Answering is proof enough of being alive. Upstream failures must not get the server restarted.
  app.get('/healthz', (_request, reply) => reply.type(TEXT).send('ok\n'))
  app.get('/readyz', (request, reply) => answerReady(options, reply, isVerbose(request.query)))
  // Request bodies are not read; Node discards them when the response is over.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, _payload, done) => done(null))
  if (options.reload) addReload(app, options.reload)
  app.setNotFoundHandler((_request, reply) =>
    reply.code(404).type(TEXT).send('not found: try /metrics, /healthz, /readyz or /-/reload\n'),
  )
  return app
}

// The reasons for not being ready are given even without ?verbose.
function answerReady(
  { readiness, details }: AdminOptions,
  reply: FastifyReply,
  verbose: boolean,
): FastifyReply {
  const { ready, reasons } = readiness
  const lines = ready ? ['ready'] : ['not ready', ...reasons.map((reason) => `- ${reason}`)]
  if (verbose) lines.push(`up for ${Math.floor(process.uptime())} s`, ...(details?.() ?? []))
  return reply
    .code(ready ? 200 : 503)
    .type(TEXT)
    .send(`${lines.join('\n')}\n`)
}

function isVerbose(query: unknown): boolean {
  return typeof query === 'object' && query !== null && 'verbose' in query
}
