// node-coap as a client that does what it is told: a line of JSON is a thing to do, and each answer or notification is one.
'use strict'

const coap = require('coap')
const readline = require('readline')

const base = new URL(process.argv[2])
const to = { hostname: base.hostname, port: Number(base.port) }
const streams = new Map()
const say = (what) => console.log(JSON.stringify(what))

function call ({ id, method, path, payload, etag }) {
  const [pathname, query] = path.split('?')
  // An ETag is text to node-coap: as it was handed over, it goes back.
  const options = etag === null ? {} : { ETag: etag }
  const contentFormat = payload === null ? undefined : 'application/json'
  const request = coap.request({ ...to, pathname, query, method, options, contentFormat })
  request.on('response', (response) => {
    say({ id, code: response.code, etag: response.headers.ETag ?? null, body: response.payload.toString() })
  })
  request.on('error', (error) => say({ id, code: String(error), etag: null, body: '' }))
  request.end(payload ?? undefined)
}

function observe ({ id, path }) {
  const [pathname, query] = path.split('?')
  // An agent closes its socket with its last observation, whatever else is to be sent.
  const request = coap.request({ ...to, pathname, query, observe: true, agent: new coap.Agent() })
  request.on('response', (stream) => {
    streams.set(id, stream)
    stream.on('data', (data) => say({ id, body: data.toString() }))
  })
  request.on('error', (error) => say({ id, body: JSON.stringify({ error: String(error) }) }))
  request.end()
}

function cancel ({ id }) {
  // As `close(true)` does, but in an order that does not close the socket first.
  const stream = streams.get(id)
  stream.emit('deregister')
  stream.close()
}

readline.createInterface({ input: process.stdin })
  .on('line', (line) => { const what = JSON.parse(line); ({ call, observe, cancel })[what.do](what) })
  .on('close', () => process.exit(0))
