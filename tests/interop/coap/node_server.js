// node-coap's server for our client: the part of ETSI's resources that the checks ask for. Its argument is the port.
'use strict'

const coap = require('coap')

const [port, periodMs, delayMs] = process.argv.slice(2).map(Number)
const first = 'the resource /test'
const held = { '/test': first, '/large-update': '' }
let ticks = 0

const lines = (from) => {
  let text = ''
  for (let n = from; n < from + 128; n++) text += `line ${String(n).padStart(10, '0')}\n`
  return text
}

function observe (request, response, body) {
  if (request.headers.Observe !== 0) return response.end(body())
  response.write(body())
  const timer = setInterval(() => response.write(body()), periodMs)
  response.on('finish', () => clearInterval(timer))
  response.on('error', () => clearInterval(timer))
}

function answer (request, response) {
  const { method } = request
  const path = request.url.split('?')[0]
  if (path === '/obs') return observe(request, response, () => String(++ticks))
  if (path === '/large') return response.end(lines(0))
  if (path === '/separate') return setTimeout(() => response.end('a separate answer'), delayMs)
  if (path === '/large-post') { response.code = '2.04'; return response.end(request.payload) }
  if (!(path in held)) { response.code = '4.04'; return response.end() }
  if (method === 'GET') return response.end(held[path])
  held[path] = method === 'DELETE' ? first : request.payload.toString()
  response.code = { PUT: '2.04', POST: '2.01', DELETE: '2.02' }[method]
  response.end()
}

const server = coap.createServer(answer)
server.on('error', (error) => console.error(error))
server.listen(port, '127.0.0.1', () => console.log(`listening on coap://127.0.0.1:${port}`))
