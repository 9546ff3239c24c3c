// A WebSocket client of Node against ws://ADDRESS/: prints the echo.
const WebSocket = require('ws');
const socket = new WebSocket(`ws://${process.argv[2]}/`);
socket.on('open', () => socket.send('from node'));
socket.on('message', (data) => { console.log(data.toString()); socket.close(1000); });
socket.on('error', (error) => { console.error(error); process.exit(1); });
