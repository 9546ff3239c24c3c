"""The Echo service of echo.proto. Prints its port, then a line for every call that is cancelled."""

import sys
import time
from concurrent import futures

import grpc

import echo_pb2
import echo_pb2_grpc


class Echo(echo_pb2_grpc.EchoServicer):
    # Calls that have begun to wait.
    waiting = 0

    def prepare(self, message, context):
        if message is not None and message.text == "silent":
            return  # No header before the answer.
        echoed = [(k, v) for k, v in context.invocation_metadata() if k in ("x-text", "x-data-bin", "x-request-id")]
        context.send_initial_metadata(tuple(echoed))
        context.set_trailing_metadata((("x-trailer", "kept"), ("x-trailer-bin", b"\x00\x01\xff")))
        if message is not None:
            self.finish(message, context)

    def finish(self, message, context):
        if message.status:
            context.abort(list(grpc.StatusCode)[message.status], "as you wish: \u00e4%")

    def wait(self, message, context):
        if message.delay_ms <= 0:
            return
        self.waiting += 1
        end = time.monotonic() + message.delay_ms / 1000
        while time.monotonic() < end:
            if not context.is_active():
                print("cancelled", flush=True)
                return
            time.sleep(0.005)

    def Unary(self, request, context):
        self.prepare(request, context)
        if request.text == "remaining":
            return echo_pb2.Message(text=str(context.time_remaining()))
        if request.text == "waiting":
            return echo_pb2.Message(text=str(self.waiting))
        self.wait(request, context)
        return echo_pb2.Message(text=request.text)

    def ServerStream(self, request, context):
        self.prepare(None, context)
        for i in range(request.count):
            self.wait(request, context)
            yield echo_pb2.Message(text=f"{request.text} {i}")
        self.finish(request, context)

    def ClientStream(self, requests, context):
        self.prepare(None, context)
        return echo_pb2.Message(text=",".join(r.text for r in requests))

    def Bidi(self, requests, context):
        self.prepare(None, context)
        for request in requests:
            yield echo_pb2.Message(text=request.text)


def main():
    server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    echo_pb2_grpc.add_EchoServicer_to_server(Echo(), server)
    print(server.add_insecure_port(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    sys.exit(main())
