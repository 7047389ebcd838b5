// Recorded from the vendor's documentation of the T7470's CoAP API v1.2, "Retrieve All Archived Sessions", example code: as it
// is there, to the letter, below this line. scripts.py replaces host and port when it runs it.
// Using node-coap (yarn add coap, npm install coap): https://github.com/mcollina/node-coap
const coap = require('coap');

// Retrieving session with number 23
let req = coap.request({
  host: '10.0.1.32',
  port: 5683,
  pathname: '/v1/sessions/history',
  method: 'GET'
});

req.on('response', res => {
  let json = JSON.parse(res.payload.toString('utf-8'));
  if (res.code[0] === '2') { // Success
    console.log(json.session_history);
  } else {
    // Some other error.
    console.error(json);
  }
});

// Send request
req.end();
