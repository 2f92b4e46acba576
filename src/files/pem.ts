// Checks PEM certificates (RFC 7468) before they are used: OpenSSL stops silently at the first
// certificate of a bundle that it cannot read.
import { X509Certificate } from 'node:crypto'

const BEGIN = /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----/g
const WHOLE = /-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----[^-]*-----END \1-----/g

/** Returns the file unchanged. Throws if it holds no certificate, or one that cannot be read. */
export function checkCertificates(file: Buffer): Buffer {
  const text = file.toString('latin1')
  const begun = text.match(BEGIN)?.length ?? 0
  const whole = [...text.matchAll(WHOLE)]
  if (begun === 0) throw new Error('holds no PEM certificate')
  if (whole.length < begun) throw new Error('ends or is damaged within a certificate')
  for (const [index, [pem, label]] of whole.entries()) {
    if (label !== 'TRUSTED CERTIFICATE' && !isReadable(pem)) {
      throw new Error(`holds a certificate that cannot be read, number ${index + 1} of ${begun}`)
    }
  }
  return file
}

function isReadable(pem: string): boolean {
  try {
    return new X509Certificate(pem.replaceAll('X509 ', '')).raw.length > 0
  } catch {
    return false
  }
}
