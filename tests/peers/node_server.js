// An HTTP/1 server of Node with its usual keep-alive of 5 s (shortened). Prints its port.
const http = require('http');
const server = http.createServer((request, response) => {
  let size = 0;
  request.on('data', (chunk) => { size += chunk.length; });
  request.on('end', () => {
    response.writeHead(200, { 'X-Node': 'yes' });
    response.end(`${request.method} ${request.url} ${size}`);
  });
});
server.keepAliveTimeout = 60;
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
