// An HTTP/2 server of Node (prior knowledge). Prints its port.
const http2 = require('http2');
const server = http2.createServer();
server.on('stream', (stream, headers) => {
  stream.respond({ ':status': 200, 'x-node': 'h2' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'x-end': 'yes' }));
  stream.on('error', () => {}); // A client that leaves is no reason to end.
  stream.pipe(stream);
});
server.on('sessionError', () => {});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
