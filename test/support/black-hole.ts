// An address of this machine that swallows connections: they are neither accepted nor refused, as
// behind a firewall that drops packets. It is a listener with a full queue whose thread sleeps.
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'

const LISTENER = `
  const { parentPort, workerData } = require('node:worker_threads')
  const server = require('node:net').createServer()
  server.listen({ ...workerData, backlog: 1 }, () => {
    parentPort.postMessage('listening')
    setImmediate(() => Atomics.wait(new Int32Array(workerData.awake), 0, 0))
  })
`

/** Swallows connections to this address (in 127.0.0.0/8) and port until it is disposed of. */
export async function openBlackHole(host: string, port: number): Promise<AsyncDisposable> {
  const awake = new SharedArrayBuffer(4)
  const worker = new Worker(LISTENER, { eval: true, workerData: { host, port, awake } })
  await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
  const queued: Socket[] = []
  for (let isFull = false; !isFull;) {
    const socket = connect(port, host).on('error', () => undefined)
    queued.push(socket)
    await sleep(50)
    isFull = socket.connecting
  }
  const dispose = async () => {
    for (const socket of queued) socket.destroy()
    Atomics.store(new Int32Array(awake), 0, 1)
    Atomics.notify(new Int32Array(awake), 0)
    await worker.terminate()
  }
  return { [Symbol.asyncDispose]: dispose }
}
