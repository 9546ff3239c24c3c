"""requests and urllib as an app uses them: the proxy is known from HTTP_PROXY alone. Usage: PROXY LIBRARY URL [CA]."""

import os
import sys

proxy, library, url = sys.argv[1:4]
for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
    os.environ[name] = f"http://{proxy}"
os.environ["NO_PROXY"] = os.environ["no_proxy"] = ""
ca = sys.argv[4] if len(sys.argv) > 4 else None
if library == "requests":
    import requests

    try:
        answer = requests.get(url, timeout=20, verify=ca or True)
        print(answer.status_code, answer.text)
    except requests.exceptions.ProxyError as error:
        print("ProxyError", error)
else:
    import ssl
    import urllib.error
    import urllib.request

    context = ssl.create_default_context(cafile=ca) if ca else None
    try:
        with urllib.request.urlopen(url, timeout=20, context=context) as answer:
            print(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode())
    except urllib.error.URLError as error:
        print("URLError", error.reason)
