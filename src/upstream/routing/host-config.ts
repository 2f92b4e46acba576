// The `configs` look-up as K3s does it (protocol.md D): which entry is about a host.

const HUB_NAMES = ['registry-1.docker.io', 'docker.io', 'index.docker.io']

/** The entry for `host` (host[:port]): its own, Docker Hub's under any of its names, else "*". */
export function configForHost<T>(hosts: Readonly<Record<string, T>>, host: string): T | undefined {
  const key = configKeyFor(hosts, host)
  return key === undefined ? undefined : own(hosts, key)
}

/** The name under which that entry is written. */
export function configKeyFor(hosts: Readonly<Record<string, unknown>>, host: string) {
  return [...namesOf(host), '*'].find((name) => own(hosts, name) !== undefined)
}

/** The same without "*": an entry that the operator wrote for this very host. */
export function exactConfig<T>(hosts: Readonly<Record<string, T>>, host: string): T | undefined {
  return namesOf(host)
    .map((name) => own(hosts, name))
    .find((entry) => entry !== undefined)
}

function namesOf(host: string): string[] {
  return HUB_NAMES.includes(host) ? [host, ...HUB_NAMES] : [host]
}

function own<T>(hosts: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(hosts, name) ? hosts[name] : undefined
}
