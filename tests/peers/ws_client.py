"""Talks WebSocket to ws://ADDRESS/chat: text, binary, large, ping, a clean close."""

import sys

from websockets.sync.client import connect

with connect(f"ws://{sys.argv[1]}/chat", max_size=None, proxy=None, additional_headers={"X-Request-Id": "ws-1"}) as ws:
    for message in ("hello", b"\x00\xff", "x" * 1_000_000, "\u00e4"):
        ws.send(message)
        assert ws.recv(timeout=10) == message
    assert ws.ping().wait(10)
print(ws.close_code, ws.response.headers["X-Request-Id"])
