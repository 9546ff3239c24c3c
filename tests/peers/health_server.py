"""grpcio's own health service: "" and "up" serve, "down" does not. Prints its port."""

from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
servicer = health.HealthServicer()
for name, status in [("", "SERVING"), ("up", "SERVING"), ("down", "NOT_SERVING")]:
    servicer.set(name, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination()
