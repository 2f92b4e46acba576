// What the notes tell the nodes, done: containerd with the hosts.toml they print pulls through a
// Chandlery with the configuration that the same values render, and past it when it is away. In
// the pod's place is a process, in the cluster's address its own on loopback.
import { mkdir, writeFile } from 'node:fs/promises'
import { parse } from 'yaml'
import { createAuthority } from '../../support/certificates.ts'
import { startRegistry, type TestRegistry } from '../../support/registry.ts'
import { parseObjects } from '../../chart/rendered.ts'
import { Chandlery } from '../chandlery.ts'
import { Containerd } from '../containerd.ts'
import type { Report } from '../report.ts'
import type { Helm } from './helm.ts'

const EXPOSURES: readonly [exposure: string, set: readonly string[]][] = [
  ['an address of the cluster', ['service.clusterIP=10.96.0.50']],
  ['a host port', ['hostPort.enabled=true']],
  [
    'a node port with a certificate',
    [
      'service.type=NodePort',
      'tls.certManager.enabled=true',
      'tls.certManager.issuerRef.name=internal-ca',
    ],
  ],
]

export async function checkPulls(report: Report, helm: Helm, directory: string): Promise<void> {
  for (const [i, [exposure, set]] of EXPOSURES.entries()) {
    await report.check(`containerd pulls by what the notes print for ${exposure}`, async () => {
      await using registry = await startRegistry()
      const args = [
        ...set,
        `config.mirrors.127\\.0\\.0\\.1:${registry.port}.endpoint={${registry.url}}`,
      ]
      await pullBothWays(
        helm,
        registry,
        args.flatMap((each) => ['--set', each]),
        `${directory}/${i}`,
      )
    })
  }
}

async function pullBothWays(
  helm: Helm,
  registry: TestRegistry,
  args: readonly string[],
  directory: string,
): Promise<void> {
  for (const name of ['through', 'past']) registry.addImage(`team/${name}`, '1')
  await using authority = await createAuthority()
  await using chandlery = await Chandlery.create({
    directory: `${directory}/chandlery`,
    config: await configOf(helm, args, (await authority.server('127.0.0.1')).certFile),
  })
  await mkdir(`${directory}/containerd/certs.d/_default`, { recursive: true })
  await using containerd = await Containerd.start(`${directory}/containerd`, chandlery.url, [])
  const hosts = hostsOf(await helm.notes(args), chandlery.host, authority.ca.certFile)
  await writeFile(`${directory}/containerd/certs.d/_default/hosts.toml`, hosts)
  await chandlery.start()
  await containerd.fetch(`${registry.host}/team/through:1`)
  if (askedByContainerd(registry)) throw new Error(`containerd went past Chandlery with\n${hosts}`)
  await chandlery.stop()
  await containerd.fetch(`${registry.host}/team/past:1`)
  if (!askedByContainerd(registry)) throw new Error('who answered is not known')
}

function askedByContainerd({ requests }: TestRegistry): boolean {
  return requests.some(({ headers }) => headers['user-agent']?.includes('containerd'))
}

/** The configuration that is rendered, with the certificate elsewhere. */
async function configOf(
  helm: Helm,
  args: readonly string[],
  certFile: string,
): Promise<Record<string, unknown>> {
  const objects = parseObjects(await helm.template(args))
  const map = objects.find(({ kind, data }) => kind === 'ConfigMap' && data !== undefined)
  if (!map) throw new Error('there is no ConfigMap')
  const { 'chandlery.yaml': text } = map['data'] as { 'chandlery.yaml': string }
  const config = parse(text) as Record<string, unknown>
  const tls = { certFile, keyFile: certFile.replace(/\.\w+$/, '.key') }
  return { ...config, shutdownDelay: '0s', ...(config['tls'] !== undefined && { tls }) }
}

/** The hosts.toml in the notes, with another address and another place of the authority. */
function hostsOf(notes: string, host: string, caFile: string): string {
  const [printed] = /^ +\[host\.".*\n(?: +\w+ = .*\n)+/m.exec(notes) ?? []
  if (printed === undefined) throw new Error(`there is no hosts.toml in:\n${notes}`)
  return printed
    .replace(/(?<=:\/\/)[^"]+/, host)
    .replace(/(?<=ca = ")[^"]+/, caFile)
    .replaceAll(/^ {5}/gm, '')
}
