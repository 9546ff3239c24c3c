// A server of Node that finds its secret as frameworks do: by the URL class, by decodeURIComponent and path.normalize, case
// folded, a slash at the end ignored. Answers with the target otherwise. With `h2` it speaks HTTP/2 (prior knowledge).
// Prints its port.
const path = require('path');
const SECRET = ['/admin', '/shop.admin/delete'];
const attempt = (step) => { try { return [step()]; } catch { return []; } };
function readings(target) {
  const raw = target.split(/[?#]/)[0];
  const found = [raw, ...attempt(() => new URL(target, 'http://app').pathname)];
  for (let i = 0; i < 2; i++) found.push(...found.flatMap((p) => attempt(() => decodeURIComponent(p))));
  found.push(...found.flatMap((p) => attempt(() => new URL(p, 'http://app').pathname)));
  return found.flatMap((p) => [p, p.replace(/\\/g, '/'), p.replace(/;[^/]*/g, ''), p.split('\0')[0]])
    .map((p) => path.posix.normalize('/' + p).toLowerCase().replace(/(.)\/$/, '$1').trim());
}
function answer(target) {
  return readings(target).some((p) => SECRET.includes(p) || p.startsWith('/admin/')) ? 'SECRET' : target;
}
let server;
if (process.argv[2] === 'h2') {
  server = require('http2').createServer();
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    stream.respond({ ':status': 200, 'content-type': headers['content-type'] || 'text/plain' });
    stream.end(answer(headers[':path']));
  });
  server.on('sessionError', () => {});
} else {
  server = require('http').createServer((request, response) => response.end(answer(request.url)));
}
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
