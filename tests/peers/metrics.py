"""Parses /metrics of http://ADDRESS with prometheus-client's parsers; prints the families."""

import sys
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text

url = f"http://{sys.argv[1]}/metrics"
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
answer = opener.open(url)
assert answer.headers["content-type"].startswith("text/plain; version=0.0.4"), answer.headers["content-type"]
body = answer.read().decode()
for family in text(body):
    seen = set()
    for sample in family.samples:
        key = (sample.name, tuple(sorted(sample.labels.items())))
        assert key not in seen, key
        seen.add(key)
    print(family.name, family.type, len(family.samples))
asked = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
answer = opener.open(asked)
if "openmetrics" in answer.headers["content-type"]:
    list(openmetrics(answer.read().decode()))
