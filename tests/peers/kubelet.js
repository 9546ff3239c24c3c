// A kubelet that can only forward ports: WebSocket (v4.channel.k8s.io), as the API server passes it on.
// Run in a pod's network namespace it reaches what listens on the pod's loopback, as the real one does.
//
// node kubelet.js CERTIFICATE KEY PORT     prints its port
"use strict";
const fs = require("node:fs");
const https = require("node:https");
const net = require("node:net");
const { WebSocketServer } = require("ws");

const [certificate, key, port] = process.argv.slice(2);
const server = https.createServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(key) }, (request, answer) => {
  answer.writeHead(404);
  answer.end();
});
const sockets = new WebSocketServer({
  server,
  handleProtocols: (offered) => (offered.has("v4.channel.k8s.io") ? "v4.channel.k8s.io" : false),
});

// Channels 2i and 2i+1 are data and errors of the i-th port; each begins with a frame that names the port (little endian).
sockets.on("connection", (socket, request) => {
  const url = new URL(request.url, "https://kubelet");
  const ports = [...url.searchParams.getAll("port"), ...url.searchParams.getAll("ports")].flatMap((p) => p.split(",")).map(Number);
  const to = ports.map((wanted, i) => {
    const frame = (channel, data) => socket.send(Buffer.concat([Buffer.from([channel]), data]));
    const name = Buffer.from([wanted & 255, wanted >> 8]);
    frame(2 * i, name);
    frame(2 * i + 1, name);
    const stream = net.connect(wanted, "127.0.0.1");
    stream.on("data", (data) => frame(2 * i, data));
    stream.on("error", (error) => { frame(2 * i + 1, Buffer.from(String(error.message))); socket.close(); });
    stream.on("close", () => socket.close());
    return stream;
  });
  socket.on("message", (data) => { if (data.length > 1 && data[0] % 2 === 0) to[data[0] / 2]?.write(data.subarray(1)); });
  socket.on("close", () => to.forEach((stream) => stream.destroy()));
});
server.listen(Number(port), "0.0.0.0", () => console.log(server.address().port));
