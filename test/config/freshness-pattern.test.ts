import { expect, test } from 'vitest'
import { checkFreshnessPattern } from '../../src/config/freshness-pattern.ts'

test.each([
  'docker.io/library/*:latest',
  '**:v*.*.*',
  'ghcr.io/**',
  'localhost:5000/team/app:Release_1.0',
  '*/library/alpine',
])('%s is a pattern', (text) => {
  expect(checkFreshnessPattern(text)).toBe(text)
})

test.each([
  ['', 'such as docker.io/library'],
  ['docker.io/Library/*', 'lower-case'],
  ['docker.io/a@sha256:0', 'never goes stale'],
  ['docker.io//a', 'such as'],
  ['docker.io/a:', 'not a tag'],
  ['docker.io/a:x y', 'not a tag'],
  ['https://docker.io/a', 'such as'],
  ['docker.io/a?:b', 'such as'],
])('%j is refused: %s', (text, why) => {
  expect(() => checkFreshnessPattern(text)).toThrow(why)
})
