"""An app as the kubelet and Prometheus know it: HTTP, or HTTPS with the certificate and key that are given. Prints its port.

/ok 200, /bad 500, /seen what it got, /within a redirect to /ok, /away one to another host, /round one to itself,
/slow never, /short an answer that breaks off, /metrics as its Accept says.
"""

import http.server
import json
import ssl
import sys
import time


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/seen":
            seen = {"path": self.path, "headers": [[k.lower(), v] for k, v in self.headers.items()]}
            print(json.dumps(seen), flush=True)
            return self.answer(200, "seen")
        if path == "/ok":
            return self.answer(200, "ok")
        if path == "/within":
            return self.answer(302, "", [("Location", "/ok")])
        if path == "/within-bad":
            return self.answer(301, "", [("Location", "bad")])
        if path == "/away":
            return self.answer(302, "", [("Location", "http://elsewhere.invalid/")])
        if path == "/round":
            return self.answer(307, "", [("Location", "/round")])
        if path == "/large":
            return self.answer(200, "x" * 1000000)
        if path == "/slow":
            return time.sleep(30)
        if path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"short")
            self.close_connection = True
            return
        if path == "/metrics":
            kind = "application/openmetrics-text" if "openmetrics" in self.headers.get("Accept", "") else "text/plain"
            return self.answer(200, f"app_up 1\n# {self.path}\n", [("Content-Type", kind)])
        self.answer(500, "bad")

    def answer(self, status, text, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


address = sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1"
server = http.server.ThreadingHTTPServer((address, 0), App)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
