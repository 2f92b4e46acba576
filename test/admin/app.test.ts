import { afterEach, describe, expect, it } from 'vitest'
import { createAdminApp } from '../../src/admin/app.ts'
import { Readiness } from '../../src/admin/readiness.ts'
import { Metrics } from '../../src/observability/metrics.ts'

const apps: ReturnType<typeof createAdminApp>[] = []
afterEach(() => Promise.all(apps.splice(0).map((app) => app.close())))

async function start() {
  const readiness = new Readiness()
  const metrics = new Metrics({ version: '1', processMetrics: false })
  const app = createAdminApp({ metrics, readiness })
  apps.push(app)
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const get = async (path: string, method = 'GET') => {
    const response = await fetch(url + path, { method })
    const type = response.headers.get('content-type')
    return { status: response.status, type, text: await response.text() }
  }
  return { readiness, get }
}

describe('the admin port', () => {
  it('gives Prometheus its format', async () => {
    const { get } = await start()
    const { status, type, text } = await get('/metrics')
    expect(status).toBe(200)
    expect(type).toBe('text/plain; version=0.0.4; charset=utf-8')
    expect(text).toContain('# TYPE chandlery_http_requests_total counter')
  })

  it('is alive although it is not ready, and says why it is not', async () => {
    const { get, readiness } = await start()
    readiness.missing('directory', '/data belongs to the server on host-1, pid 7')
    expect(await get('/healthz')).toMatchObject({ status: 200, text: 'ok\n' })
    expect(await get('/readyz')).toMatchObject({
      status: 503,
      text: 'not ready\n- /data belongs to the server on host-1, pid 7\n',
    })
    readiness.met('directory')
    expect(await get('/readyz')).toMatchObject({ status: 200, text: 'ready\n' })
    expect((await get('/readyz?verbose')).text).toMatch(/^ready\nup for \d+ s\n$/)
  })

  it('answers HEAD, and 404 for what it does not have', async () => {
    const { get } = await start()
    expect(await get('/healthz', 'HEAD')).toMatchObject({ status: 200, text: '' })
    expect((await get('/')).status).toBe(404)
    expect((await get('/healthz', 'POST')).status).toBe(404)
  })
})
