// node-coap's client: does the checks against the server that its argument names, and prints each as a line of JSON, as
// `Group.check` in harness.py takes it.
'use strict'

const coap = require('coap')

const base = new URL(process.argv[2])
const lines = (first, length) => {
  let text = ''
  for (let n = first; n < first + length / 16; n++) text += `line ${String(n).padStart(10, '0')}\n`
  return text
}
const body = (bytes) => 'put  0123456789\n'.repeat(bytes / 16)

function request (path, { method = 'GET', confirmable = true, payload, agent, observe, options = {} } = {}) {
  const [pathname, query] = path.split('?')
  return new Promise((resolve, reject) => {
    const to = { hostname: base.hostname, port: Number(base.port) }
    const sent = coap.request({ ...to, pathname, query, method, confirmable, agent, observe, options })
    const timer = setTimeout(() => reject(new Error(`no answer to ${method} ${path}`)), 15000)
    sent.on('error', reject)
    sent.on('response', (response) => { clearTimeout(timer); resolve(response) })
    sent.end(payload)
  })
}

let last
async function call (path, how) {
  const response = await request(path, how)
  const { code, options } = response
  last = { sent: `${how?.method ?? 'GET'} ${path}`, code, text: response.payload.toString(), options }
  const option = (name) => response.options.filter((held) => held.name === name).map((held) => held.value)
  return { ...last, option, headers: response.headers }
}

function say (what, ok, sent, seen) {
  console.log(JSON.stringify({ what, ok, sent, seen }))
}

function check (what, ok) {
  say(what, Boolean(ok), last.sent, `${last.code} ${JSON.stringify(last.options)} ${last.text.slice(0, 300)}`)
}

async function basics () {
  for (const [mode, confirmable] of [['CON', true], ['NON', false]]) {
    for (const [method, code] of [['GET', '2.05'], ['PUT', '2.04'], ['POST', '2.01'], ['DELETE', '2.02']]) {
      const payload = method === 'PUT' || method === 'POST' ? 'new' : undefined
      const seen = await call('/test', { method, confirmable, payload })
      check(`${method}, ${mode}`, seen.code === code)
      if (method === 'PUT') check(`GET sees what PUT as ${mode} put`, (await call('/test')).text === 'new')
    }
    check(`a separate answer, ${mode}`, (await call('/separate', { confirmable })).text === 'a separate answer')
  }
  let seen = await call('/create2', { method: 'POST', payload: 'x' })
  check('Location-Path', seen.option('Location-Path').join('/') === 'location1/location2/location3')
  seen = await call('/location-query', { method: 'POST', payload: 'x' })
  check('Location-Query', seen.option('Location-Query').join('&') === 'first=1&second=2')
  for (const [accept, code] of [['text/plain', '2.05'], ['application/xml', '2.05'], ['application/json', '4.06']]) {
    seen = await call('/multi-format', { options: { Accept: accept } })
    check(`Accept ${accept}`, seen.code === code && (code !== '2.05' || seen.headers['Content-Format'] === accept))
  }
  check('no such resource: 4.04', (await call('/nowhere')).code === '4.04')
  check('no such method: 4.05', (await call('/large', { method: 'DELETE' })).code === '4.05')
}

async function conditions () {
  const [tag] = (await call('/validate')).option('ETag')
  check('an ETag', tag)
  let seen = await call('/validate', { options: { ETag: tag } })
  check('ETag: 2.03 without a payload', seen.code === '2.03' && seen.text === '')
  for (const code of ['2.04', '4.12']) {
    seen = await call('/validate', { method: 'PUT', payload: 'other', options: { 'If-Match': Buffer.from(tag) } })
    check(`If-Match: ${code}`, seen.code === code)
  }
  seen = await call('/validate', { options: { ETag: tag } })
  check('ETag of what was there: 2.05', seen.code === '2.05' && seen.text === 'other')
  for (const code of ['2.01', '4.12']) {
    seen = await call('/create1', { method: 'PUT', payload: 'x', options: { 'If-None-Match': Buffer.alloc(0) } })
    check(`If-None-Match: ${code}`, seen.code === code)
  }
}

async function blocks () {
  const whole = lines(0, 2048)
  check('Block2, late', (await call('/large')).text === whole)
  for (const exponent of [0, 2, 6]) {
    const seen = await call('/large', { options: { Block2: Buffer.of(exponent) } })
    check(`Block2, ${16 << exponent}`, seen.text === whole)
  }
  for (const bytes of [4000, 20000]) {
    for (const exponent of [2, 6]) {
      const block1 = { options: { Block1: Buffer.of(exponent) }, payload: body(bytes) }
      await call('/large-update', { method: 'DELETE' })
      let seen = await call('/large-update', { method: 'PUT', ...block1 })
      check(`Block1 PUT of ${bytes} bytes in ${16 << exponent}s`, seen.code === '2.04')
      seen = await call('/large-update', { options: { Block2: Buffer.of(exponent) } })
      check(`Block2 of ${bytes} bytes in ${16 << exponent}s`, seen.text === body(bytes))
      seen = await call('/large-create', { method: 'POST', ...block1 })
      const path = `/${seen.option('Location-Path').join('/')}`
      check(`Block1 POST of ${bytes} bytes in ${16 << exponent}s creates`, seen.code === '2.01')
      check(`GET of what POST created with ${bytes} bytes in ${16 << exponent}s`, (await call(path)).text === body(bytes))
      seen = await call('/large-post', { method: 'POST', ...block1 })
      check(`Block1 and Block2 in one POST of ${bytes} bytes in ${16 << exponent}s`, seen.text === body(bytes))
    }
  }
}

async function observe (path, least, isRight) {
  // An agent closes its socket with its last observation, whatever else is to be sent.
  const stream = await request(path, { observe: true, agent: new coap.Agent() })
  const bodies = []
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, 5000)
    stream.on('data', (data) => {
      bodies.push(data.toString())
      if (bodies.length === least) { clearTimeout(timer); resolve() }
    })
  })
  // As `close(true)` does, but in an order that does not close the socket first.
  stream.emit('deregister')
  stream.close()
  const ok = bodies.length >= least && bodies.every(isRight)
  const seen = JSON.stringify(bodies.map((text) => text.slice(0, 40)))
  say(`observe ${path}: several notifications`, ok, `GET ${path}, Observe 0`, seen)
}

const inOrder = (text) => {
  const first = Number(/^line (\d+)\n/.exec(text)?.[1])
  return text === lines(first, text.length)
}

async function observations () {
  const isNumber = (text) => /^\d+$/.test(text)
  for (const path of ['/obs', '/obs-non', '/obs-reset']) await observe(path, 4, isNumber)
  await observe('/obs-large', 4, (text) => text.length === 2048 && inOrder(text))
  await observe('/obs-pumping', 4, inOrder)
  await observe('/obs-pumping-non', 4, inOrder)
  // What was cancelled can be asked for again.
  await observe('/obs', 3, isNumber)
  const stream = await request('/obs', { observe: true, agent: new coap.Agent() })
  await call('/obs', { method: 'DELETE' })
  await new Promise((resolve) => setTimeout(resolve, 1000))
  say('observe: DELETE ends it: 4.04', stream.code === '4.04', 'DELETE /obs', `the stream's code is ${stream.code}`)
  stream.close()
}

async function discovery () {
  for (const [query, links] of [['rt=Type2', '/link1 /link2'], ['if=If*', '/link1 /link2'], ['href=/link1', '/link1'],
    ['sz=*', '/large /large-update /obs-large']]) {
    const seen = await call(`/.well-known/core?${query}`)
    const found = [...seen.text.matchAll(/<(.*?)>/g)].map((match) => match[1]).join(' ')
    check(`/.well-known/core?${query}`, found === links && seen.headers['Content-Format'] === 'application/link-format')
  }
  check('/.well-known/core', (await call('/.well-known/core')).text.includes('</path>;ct=40'))
}

async function main () {
  for (const part of [basics, conditions, blocks, observations, discovery]) {
    try {
      await part()
    } catch (error) {
      say(`${part.name}, to the end`, false, last?.sent, String(error.stack))
    }
  }
  process.exit(0)
}

main()
