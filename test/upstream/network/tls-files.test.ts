// The files behind TLS as they rotate: what cannot be used leaves what was good.
import { copyFile, rm, writeFile } from 'node:fs/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { TlsFileError, TlsFiles } from '../../../src/upstream/network/tls.ts'
import { createAuthority, type KeyPair, type TestAuthority } from '../../support/certificates.ts'
import { type TemporaryDirectory, temporaryDirectory } from '../../support/temporary-directory.ts'

let authority: TestAuthority
let directory: TemporaryDirectory
let paths: { ca_file: string; cert_file: string; key_file: string }
let one: KeyPair
let two: KeyPair

beforeEach(async () => {
  directory = await temporaryDirectory()
  authority = await createAuthority()
  one = await authority.client('one')
  two = await authority.client('two')
  const path = (name: string) => directory.join(name)
  paths = { ca_file: path('ca.pem'), cert_file: path('tls.crt'), key_file: path('tls.key') }
  await copyFile(authority.ca.certFile, paths.ca_file)
  await copyFile(one.certFile, paths.cert_file)
  await copyFile(one.keyFile, paths.key_file)
})

afterEach(async () => {
  await authority[Symbol.asyncDispose]()
  await directory.remove()
})

test('TLS files have one id for one content, whoever reads them, and another for another', async () => {
  const files = new TlsFiles(paths)
  const { id, context } = await files.current()
  expect((await new TlsFiles(paths).current()).id).toBe(id)
  // Made once, since that takes long with a system's bundle.
  expect((await new TlsFiles(paths).current()).context).toBe(context)
  expect((await new TlsFiles({ ...paths, insecure_skip_verify: true }).current()).id).not.toBe(id)
  await copyFile(two.certFile, paths.cert_file)
  await copyFile(two.keyFile, paths.key_file)
  files.recheck()
  expect((await files.current()).id).not.toBe(id)
})

test('TLS files of which only the certificate is new leave the old pair until the key has come', async () => {
  const files = new TlsFiles(paths)
  const former = await files.current()
  await copyFile(two.certFile, paths.cert_file)
  files.recheck()
  expect(await files.current()).toBe(former)
  await copyFile(two.keyFile, paths.key_file)
  files.recheck()
  expect((await files.current()).id).not.toBe(former.id)
})

test.each(['ca_file', 'cert_file', 'key_file'] as const)(
  'TLS files whose %s goes away or holds nonsense keep the last good pair, and are an error at first',
  async (key) => {
    const files = new TlsFiles(paths)
    const former = await files.current()
    await writeFile(paths[key], 'nonsense')
    files.recheck()
    expect(await files.current()).toBe(former)
    await expect(new TlsFiles(paths).current()).rejects.toThrow(paths[key])
    await rm(paths[key])
    files.recheck()
    expect(await files.current()).toBe(former)
    await expect(new TlsFiles(paths).current()).rejects.toThrow(TlsFileError)
  },
)
