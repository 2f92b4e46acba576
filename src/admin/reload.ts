// POST /-/reload: reloads the configuration and the files it names, and answers with the outcome.
import type { FastifyInstance } from 'fastify'
import { type AdminToken, refusalOf } from './change-access.ts'

/** The outcome of a reload. It contains no secrets and may be logged. */
export type ReloadOutcome =
  | {
      readonly result: 'reloaded' | 'unchanged'
      /** Configuration keys and files that have changed. */
      readonly changed: readonly string[]
      /** Changed keys that take effect only after a restart. */
      readonly restart: readonly string[]
      readonly warnings: readonly string[]
    }
  | { readonly result: 'refused'; readonly problems: readonly string[] }

export interface ReloadOptions {
  readonly reload: () => Promise<ReloadOutcome>
  readonly token?: AdminToken | undefined
}

/** Adds the route: 200 with what changed, or 422 with the problems while the old configuration stays in use. */
export function addReload(app: FastifyInstance, { reload, token }: ReloadOptions): void {
  app.post('/-/reload', {
    // Access is checked before any of the body is read.
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
    return reply.code(405).header('allow', 'POST').send({ error: 'use POST to reload' })
  })
}
