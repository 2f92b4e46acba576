// Everything the benchmark starts: nginx as the upstream registry (cheap enough not to count), and
// Chandlery beside nginx and docker-registry as caches in front of it.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Server, startServer } from './process.ts'

const ROOT = join(import.meta.dirname, '../..')

/** Where a server listens, what starts it there, and what it is called. */
interface Place {
  readonly name: string
  readonly host: string
  readonly within: readonly string[]
}

export class Bench {
  readonly directory: string
  #port = 18400

  constructor(directory: string) {
    this.directory = directory
  }

  /** The upstream: files under `v2/bench/` as a registry serves them; its log counts what it sent. */
  async origin(
    manifestDigest: string,
    place: Place = { name: 'origin', host: '127.0.0.1', within: [] },
  ): Promise<Server & { log: string }> {
    const port = this.#port++
    const log = join(this.directory, `origin-${port}.log`)
    const server = await this.#nginx(
      place.name,
      port,
      `
      log_format sent '$request_method $status $body_bytes_sent $uri $connection';
      server {
        listen ${place.host}:${port};
        access_log ${log} sent;
        root ${this.directory}/origin;
        location = /v2/ { access_log off; default_type application/json; return 200 '{}'; }
        location /v2/bench/manifests/ {
          default_type application/vnd.oci.image.manifest.v1+json;
          add_header Docker-Content-Digest ${manifestDigest};
        }
        location / { default_type application/octet-stream; }
      }`,
      place,
    )
    return { ...server, log }
  }

  /** nginx serving the same files itself, with sendfile: the floor for held content. */
  nginxFiles(): Promise<Server> {
    const port = this.#port++
    return this.#nginx(
      'nginx, sendfile',
      port,
      `
      access_log off;
      server {
        listen 127.0.0.1:${port};
        root ${this.directory}/origin;
        default_type application/octet-stream;
      }`,
    )
  }

  /** nginx caching what the origin gives, as people configure it in front of a registry. */
  nginxCache(origin: Server): Promise<Server> {
    const port = this.#port++
    const cache = join(this.directory, `nginx-cache-${port}`)
    return this.#nginx(
      'nginx, proxy_cache',
      port,
      `
      access_log off;
      proxy_cache_path ${cache} keys_zone=bench:10m max_size=20g;
      server {
        listen 127.0.0.1:${port};
        location / {
          proxy_pass http://${origin.host}:${origin.port};
          proxy_http_version 1.1;
          proxy_set_header Connection '';
          proxy_cache bench;
          proxy_cache_lock on;
          proxy_cache_lock_timeout 60s;
          proxy_cache_lock_age 60s;
          proxy_cache_valid 200 1h;
          proxy_max_temp_file_size 4096m;
        }
      }`,
    )
  }

  /** Debian's docker-registry as a pull-through cache. */
  async registryProxy(origin: Server): Promise<Server> {
    const port = this.#port++
    const config = this.#write(
      `registry-${port}.yml`,
      `
version: 0.1
log: { level: error, accesslog: { disabled: true } }
storage: { filesystem: { rootdirectory: ${this.directory}/registry-${port} }, maintenance: { uploadpurging: { enabled: false } } }
http: { addr: 127.0.0.1:${port} }
proxy: { remoteurl: 'http://${origin.host}:${origin.port}' }
`,
    )
    const command: [string, ...string[]] = ['docker-registry', 'serve', config]
    return await startServer('docker-registry, proxy', port, command, this.#log)
  }

  /** Chandlery with an empty cache. */
  async chandlery(origin: Server, level = 'info'): Promise<Server & { log: string }> {
    const port = this.#port++
    const admin = this.#port++
    const config = this.#write(
      `chandlery-${port}.yaml`,
      `
listen: 127.0.0.1:${port}
admin: { listen: 127.0.0.1:${admin} }
storage: { directory: ${this.directory}/chandlery-${port} }
defaultRegistry: bench.example
defaultEndpoints: false
mirrors: { bench.example: { endpoint: ['http://${origin.host}:${origin.port}'] } }
log: { level: ${level} }
`,
    )
    const command: [string, ...string[]] = [process.execPath, join(ROOT, 'bin/chandlery.js')]
    const log = join(this.directory, `chandlery-${port}.log`)
    const server = await startServer(
      'Chandlery',
      port,
      [...command, 'serve', '--config', config],
      log,
    )
    await ready(admin)
    return { ...server, log }
  }

  get #log(): string {
    return join(this.directory, 'peers.log')
  }

  async #nginx(name: string, port: number, http: string, place?: Place): Promise<Server> {
    const prefix = join(this.directory, `nginx-${port}`)
    mkdirSync(prefix, { recursive: true })
    const config = this.#write(
      `nginx-${port}.conf`,
      `
user root;
daemon off;
worker_processes 1;
pid ${prefix}/pid;
error_log ${this.#log};
events { worker_connections 4096; }
http {
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000000;
  client_body_temp_path ${prefix}/body;
  proxy_temp_path ${prefix}/proxy;
  fastcgi_temp_path ${prefix}/fastcgi;
  uwsgi_temp_path ${prefix}/uwsgi;
  scgi_temp_path ${prefix}/scgi;
${http}
}
`,
    )
    const { host, within = [] } = place ?? {}
    const [command, ...args] = [...within, 'nginx', '-c', config, '-p', prefix]
    return await startServer(name, port, [command, ...args], this.#log, host)
  }

  #write(name: string, text: string): string {
    const path = join(this.directory, name)
    writeFileSync(path, text)
    return path
  }
}

async function ready(admin: number): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    const answer = await fetch(`http://127.0.0.1:${admin}/readyz`).catch(() => undefined)
    if (answer?.ok) return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error('Chandlery did not become ready')
}
