"""A server that reads paths as leniently as any does: it gives its secret to whatever may be taken for /admin by
decoding once or twice, dropping parameters, turning backslashes, merging slashes, removing dot segments, folding case and
Unicode, or cutting at NUL, blanks and delimiters, in any order. Otherwise it answers with the request's target. Prints
its port."""

import itertools
import posixpath
import re
import unicodedata
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote_to_bytes, urlsplit

SECRET = ("/admin", "/shop.admin/delete")


def unquote(path):
    raw = unquote_to_bytes(re.sub(r"%u00([0-9a-fA-F]{2})", r"%\1", path))
    # Overlong forms, as decoders had them that did not check.
    raw = re.sub(rb"\xc0([\x80-\xbf])", lambda m: bytes([m.group(1)[0] & 0x3F]), raw)
    raw = re.sub(rb"\xc1([\x80-\xbf])", lambda m: bytes([m.group(1)[0] & 0x3F | 0x40]), raw)
    raw = re.sub(rb"\xe0\x80([\x80-\xbf])", lambda m: bytes([m.group(1)[0] & 0x3F]), raw)
    return raw.decode("utf-8", "replace")


STEPS = (
    unquote,
    lambda p: re.sub(r";[^/]*", "", p),
    lambda p: p.replace("\\", "/"),
    lambda p: re.split(r"[\0?#]", p)[0],
    lambda p: unicodedata.normalize("NFKC", p),
    lambda p: re.sub(r"[\t\r\n\x7f]", "", p),
    lambda p: urlsplit(p).path if p.startswith("//") else p,
)
ORDERS = [*itertools.permutations(range(4)), (0, 0, 1, 2, 3), (1, 0, 0, 2, 3), (4, 0, 4, 1, 2, 3), (5, 0, 5, 1, 2, 3), (6, 0, 1, 2, 3)]


def readings(path):
    for order in ORDERS:
        text = path
        for step in order:
            text = STEPS[step](text)
        for text in (text, re.sub(r"[\t\r\n\x7f]", "", text)):
            segments = [s.strip() for s in text.split("/")]
            yield posixpath.normpath("/" + "/".join(s for s in segments if s)).lower()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        # The library merges slashes at the start of what it calls the path.
        target = self.requestline.split(" ")[1]
        path = target.split("?")[0].split("#")[0]
        path = re.sub(r"^https?://[^/]*", "", path) or "/"
        self.rfile.read(int(self.headers.get("content-length") or 0))
        secret = any(r in SECRET or r.startswith("/admin/") for r in readings(path))
        body = ("SECRET" if secret else target).encode("utf-8", "surrogateescape")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_OPTIONS = answer

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
