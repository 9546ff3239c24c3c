"""HTTP/2 and HTTP/1 by httpx against ADDRESS: prints protocol, status and body of both."""

import sys

import httpx

for http1, http2 in ((True, False), (False, True)):
    with httpx.Client(http1=http1, http2=http2, trust_env=False) as client:
        for _ in range(3):
            answer = client.post(f"http://{sys.argv[1]}/x", content=b"y" * 100_000)
        print(answer.http_version, answer.status_code, answer.text)
