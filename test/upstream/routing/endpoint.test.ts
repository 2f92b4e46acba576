import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  defaultEndpoint,
  EndpointError,
  nameOnWire,
  normaliseEndpoint,
} from '../../../src/upstream/routing/endpoint.ts'

describe('an endpoint is read as K3s reads it,', () => {
  test.each([
    [
      'bare host',
      'registry.example.com',
      'https://registry.example.com/v2',
      'registry.example.com',
    ],
    ['host with a port', 'r.example:5000', 'https://r.example:5000/v2', 'r.example:5000'],
    ['host:443 is not host', 'r.example:443', 'https://r.example:443/v2', 'r.example:443'],
    ['address', '10.0.0.1', 'https://10.0.0.1/v2', '10.0.0.1'],
    ['address with a port', '10.0.0.1:5000', 'https://10.0.0.1:5000/v2', '10.0.0.1:5000'],
    ['URL', 'https://r.example', 'https://r.example/v2', 'r.example'],
    ['plain HTTP', 'http://r.example:80', 'http://r.example:80/v2', 'r.example:80'],
    ['trailing slash', 'https://r.example/', 'https://r.example/v2', 'r.example'],
    ['/v2', 'https://r.example/v2', 'https://r.example/v2', 'r.example'],
    ['/v2/', 'https://r.example/v2/', 'https://r.example/v2', 'r.example'],
    [
      'a prefix before v2',
      'https://r.example/prefix/v2',
      'https://r.example/prefix/v2',
      'r.example',
    ],
    ['a path after v2', 'https://r.example/v2/proxy', 'https://r.example/v2/proxy', 'r.example'],
    [
      'a path without v2: none is added',
      'r.example/project/registry',
      'https://r.example/project/registry',
      'r.example',
    ],
    ['upper case', 'HTTPS://R.Example/V2', 'https://r.example/V2', 'r.example'],
    ['Docker Hub', 'docker.io', 'https://registry-1.docker.io/v2', 'registry-1.docker.io'],
    [
      'Docker Hub with a scheme',
      'https://docker.io',
      'https://registry-1.docker.io/v2',
      'registry-1.docker.io',
    ],
    [
      'another name of Docker Hub',
      'index.docker.io',
      'https://index.docker.io/v2',
      'index.docker.io',
    ],
    ['localhost with a port', 'localhost:5000', 'http://localhost:5000/v2', 'localhost:5000'],
    [
      'localhost with a port and TLS',
      'https://localhost:5000',
      'https://localhost:5000/v2',
      'localhost:5000',
    ],
    ['localhost:443', 'localhost:443', 'https://localhost:443/v2', 'localhost:443'],
    ['localhost', 'localhost', 'https://localhost/v2', 'localhost'],
    ['loopback address', '127.1.2.3:5000', 'http://127.1.2.3:5000/v2', '127.1.2.3:5000'],
    ['loopback, IPv6', '[::1]:5000', 'http://[::1]:5000/v2', '[::1]:5000'],
    ['IPv6', '[2001:db8::1]:5000', 'https://[2001:db8::1]:5000/v2', '[2001:db8::1]:5000'],
    [
      'no loopback',
      'localhost.example:5000',
      'https://localhost.example:5000/v2',
      'localhost.example:5000',
    ],
  ])('%s: %s', (_, text, key, host) => {
    const endpoint = normaliseEndpoint(text)
    expect(endpoint).toMatchObject({ key, host })
    expect(endpoint.base.pathname).toBe(new URL(key).pathname)
    expect(endpoint.base.href).toBe(new URL(key).href)
  })

  test("and a registry's own endpoint has no rewrites", () => {
    expect(defaultEndpoint('docker.io')).toMatchObject({
      key: 'https://registry-1.docker.io/v2',
      isDefault: true,
      rewrites: [],
    })
    expect(defaultEndpoint('localhost:5000').key).toBe('http://localhost:5000/v2')
  })
})

describe('an invalid endpoint', () => {
  test.each([
    ['', 'has no valid host'],
    ['https://', 'has no valid host'],
    ['/v2', 'has no valid host'],
    ['http:/r.example', 'has no valid host'],
    ['r.example:', 'has no valid host'],
    ['r.example:0', 'has no valid host'],
    ['r.example:65536', 'has no valid host'],
    ['r.example:http', 'has no valid host'],
    ['::1', 'has no valid host'],
    ['[zz]:1', 'has no valid host'],
    ['[::::]', 'is no URL'],
    ['ftp://r.example', 'has the scheme ftp'],
    ['unix:///run/x', 'has the scheme unix'],
    ['https://r.example?ns=docker.io', 'holds a query or a fragment'],
    ['https://r.example/#x', 'holds a query or a fragment'],
    ['https://r.example/a b', 'is no URL'],
    [' https://r.example', 'is no URL'],
    ['https:\\\\r.example', 'is no URL'],
    ['https://r.example\n', 'is no URL'],
    ['https://r.exa%mple', 'is no URL'],
    ['127.1:5000', 'unusual way to write the address 127.0.0.1'],
  ])('is refused with a reason: %j %s', (text, why) => {
    expect(() => normaliseEndpoint(text)).toThrow(EndpointError)
    expect(() => normaliseEndpoint(text)).toThrow(why)
  })

  test.each([
    'https://bot:s3cret@r.example',
    'bot:s3cret@r.example/v2',
    'https://bot:s3cret/x@r.example',
    'ftp://bot:s3cret@r.example',
    'https://bot:s3cret@@r.example',
    'https://r.example/?token=s3cret',
    'https://r.example/#s3cret',
    'https://bot:a@s3cret@r.example b',
  ])('is refused without the secret in %j', (text) => {
    const thrown = expect(() => normaliseEndpoint(text))
    thrown.toThrow(EndpointError)
    thrown.not.toThrow('s3cret')
  })
})

test.each([
  ['https://h', 'library/x'],
  ['https://h/v2', 'library/x'],
  ['https://h/prefix/v2', 'library/x'],
  ['https://h/artifactory/api/docker/hub/v2', 'library/x'],
  ['https://h/v2/proxy', 'proxy/library/x'],
  ['https://h/v2/proxy/hub/', 'proxy/hub/library/x'],
  ['https://h/a/v2/b', 'b/library/x'],
  ['https://h/v2/v2', 'v2/library/x'],
  ['https://h/project/registry', 'library/x'],
])('on the wire, %s calls library/x %s', (text, expected) => {
  expect(nameOnWire(normaliseEndpoint(text), 'library/x')).toBe(expected)
})

test('any string is an endpoint without secrets that reads back the same, or is refused', () => {
  const piece = fc.constantFrom(
    'https://',
    'http://',
    'h.io',
    ':',
    '443',
    '5000',
    '/',
    'v2',
    '@',
    '?',
    '#',
    '[::1]',
    '%2e',
    '..',
    'ü',
    'localhost',
    '\\',
    '1',
  )
  const text = fc.oneof(
    fc.array(piece, { maxLength: 8 }).map((parts) => parts.join('')),
    fc.string(),
  )
  fc.assert(
    fc.property(text, (raw) => {
      try {
        const endpoint = normaliseEndpoint(raw)
        expect(normaliseEndpoint(endpoint.key).key).toBe(endpoint.key)
        expect(endpoint.base.pathname).not.toMatch(/\/$/)
        expect(endpoint.base.username + endpoint.base.password + endpoint.base.search).toBe('')
      } catch (error) {
        expect(error).toBeInstanceOf(EndpointError)
      }
    }),
    { numRuns: 2000 },
  )
})
