"""Registers one endpoint in ZooKeeper and keeps it: HOSTS PATH ID JSON. Prints 0 when it is there (where others print a port)."""

import logging
import sys
import threading

from kazoo.client import KazooClient

logging.disable(logging.CRITICAL)
hosts, path, name, data = sys.argv[1:]
client = KazooClient(hosts=hosts, timeout=1.0)
client.start(timeout=60)
client.create(f"{path}/{name}", data.encode(), ephemeral=True, makepath=True)
print(0, flush=True)
threading.Event().wait()
