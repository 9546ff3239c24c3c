// Node behind a proxy. Usage: PROXY KIND URL: `http` sends an absolute target, `undici` and `fetch` open tunnels by CONNECT.
const http = require('http');
const { EnvHttpProxyAgent, request } = require('undici');
const [proxy, kind, url] = process.argv.slice(2);
const fail = (error) => { console.log('error', error.message, error.cause ? error.cause.message : ''); process.exit(0); };
if (kind === 'http') {
  const [host, port] = proxy.split(':');
  http.get({ host, port, path: url, headers: { host: new URL(url).host } }, (answer) => {
    let text = '';
    answer.on('data', (chunk) => { text += chunk; });
    answer.on('end', () => console.log(answer.statusCode, text));
  }).on('error', fail);
} else {
  const dispatcher = new EnvHttpProxyAgent({ httpProxy: `http://${proxy}`, httpsProxy: `http://${proxy}`, noProxy: '' });
  const options = { dispatcher };
  const ask = kind === 'undici'
    ? request(url, options).then(async (answer) => console.log(answer.statusCode, await answer.body.text()))
    : require('undici').fetch(url, options).then(async (answer) => console.log(answer.status, await answer.text()));
  ask.then(() => dispatcher.close()).catch(fail);
}
