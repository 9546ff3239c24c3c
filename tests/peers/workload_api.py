"""A SPIFFE Workload API on a Unix socket, written to the standard (SPIFFE Workload API, section 5), as a double of an agent.

    workload_api.py SOCKET DIRECTORY

Pushes what DIRECTORY holds, and again whenever `turn` in it changes: a line for each SVID, `HINT NAME`, where the
directory NAME has `tls.crt`, `tls.key` and `ca.crt`; the word `deny` ends streams with PERMISSION_DENIED. It shares
no code with the proxy: messages are written byte by byte. Prints 0 when it listens (there is no port), then a line
for each call.
"""

import base64
import os
import re
import sys
import threading
import time
from concurrent import futures

import grpc

socket, directory = sys.argv[1:3]


def turn():
    with open(os.path.join(directory, "turn")) as file:
        return file.read().strip()


def sections(path, kind):
    with open(path) as file:
        text = file.read()
    found = re.findall(rf"-----BEGIN {kind}-----(.*?)-----END {kind}-----", text, re.S)
    return b"".join(base64.b64decode(section) for section in found)


def field(number, data):
    length, out = len(data), bytearray([number << 3 | 2])
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out) + data


def svid(line):
    hint, name, identity = line.split()
    path = lambda file: os.path.join(directory, name, file)
    return field(1, b"".join([
        field(1, identity.encode()),
        field(2, sections(path("tls.crt"), "CERTIFICATE")),
        field(3, sections(path("tls.key"), "PRIVATE KEY")),
        field(4, sections(path("ca.crt"), "CERTIFICATE")),
        field(5, hint.encode()),
    ]))


def fetch(request, context):
    metadata = dict(context.invocation_metadata())
    print("call", metadata.get("workload.spiffe.io"), flush=True)
    if metadata.get("workload.spiffe.io") != "true":
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
    said = None
    while context.is_active():
        now = turn()
        if now == "deny":
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
        if now != said:
            said = now
            lines = [line for line in now.splitlines() if not line.startswith("#")]
            # A bundle of another trust domain stands beside it: an entry of a map.
            other = field(3, field(1, b"spiffe://other.domain") + field(2, b"\x30\x00"))
            yield b"".join(map(svid, lines)) + other
        time.sleep(0.02)


method = grpc.unary_stream_rpc_method_handler(fetch, request_deserializer=None, response_serializer=None)
service = grpc.method_handlers_generic_handler("SpiffeWorkloadAPI", {"FetchX509SVID": method})
server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((service,))
server.add_insecure_port(f"unix:{socket}")
server.start()
print(0, flush=True)
threading.Event().wait()
