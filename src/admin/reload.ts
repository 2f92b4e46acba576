// POST /-/reload: reads the configuration and what it names again, at once, and says what came of it.
import type { FastifyInstance } from 'fastify'
import { type AdminToken, refusalOf } from './change-access.ts'

/** What became of one reload; every text is fit for a log. */
export type ReloadOutcome =
  | {
      readonly result: 'reloaded' | 'unchanged'
      /** Keys of the configuration and files that are not what they were. */
      readonly changed: readonly string[]
      /** Keys that differ from what the server runs with until it is restarted. */
      readonly restart: readonly string[]
      readonly warnings: readonly string[]
    }
  | { readonly result: 'refused'; readonly problems: readonly string[] }

export interface ReloadOptions {
  readonly reload: () => Promise<ReloadOutcome>
  readonly token?: AdminToken | undefined
}

/** 200 with what changed, 422 with the problems: the former configuration stays. */
export function addReload(app: FastifyInstance, { reload, token }: ReloadOptions): void {
  app.post('/-/reload', {
    // Before anything of a body is read.
    onRequest: async (request, reply) => {
      const refusal = await refusalOf(request.raw, token)
      if (refusal === undefined) return
      await reply.code(refusal.status).headers(refusal.headers).send({ error: refusal.message })
    },
    handler: async (_request, reply) => {
      const outcome = await reload()
      return await reply.code(outcome.result === 'refused' ? 422 : 200).send(outcome)
    },
  })
  app.get('/-/reload', (_request, reply) => {
    return reply.code(405).header('allow', 'POST').send({ error: 'a reload is asked for by POST' })
  })
}
