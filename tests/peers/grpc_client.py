"""One gRPC scenario against ADDRESS; prints what the test compares. Usage: grpc_client.py ADDRESS SCENARIO."""

import sys
import time

import grpc

import echo_pb2
import echo_pb2_grpc

M = echo_pb2.Message


def metadata(items):
    return dict((k, v) for k, v in items)


def unary(stub):
    answer, call = stub.Unary.with_call(M(text="hello"), metadata=(("x-text", "t"), ("x-data-bin", b"\x00\xfe")), timeout=10)
    initial, trailing = metadata(call.initial_metadata()), metadata(call.trailing_metadata())
    assert initial["x-text"] == "t" and initial["x-data-bin"] == b"\x00\xfe", initial
    assert initial.get("x-request-id"), initial
    assert trailing["x-trailer"] == "kept" and trailing["x-trailer-bin"] == b"\x00\x01\xff", trailing
    print(answer.text)


def large(stub):
    text = "x" * 3_000_000
    assert stub.Unary(M(text=text), timeout=10).text == text
    print("ok")


def server_stream(stub):
    print([m.text for m in stub.ServerStream(M(text="s", count=3), timeout=10)])


def client_stream(stub):
    print(stub.ClientStream((M(text=str(i)) for i in range(4)), timeout=10).text)


def bidi(stub):
    """Each message is sent only after the answer to the one before: nothing may be held back."""
    import queue

    outgoing = queue.Queue()
    answers = stub.Bidi(iter(outgoing.get, None), timeout=10)
    got = []
    for i in range(5):
        outgoing.put(M(text=f"b{i}"))
        got.append(next(answers).text)
    outgoing.put(None)
    assert list(answers) == []
    print(got)


def status(stub):
    try:
        stub.Unary(M(status=5), timeout=10)
    except grpc.RpcError as error:
        print(error.code().name, error.details())
    try:
        list(stub.ServerStream(M(text="s", count=2, status=7), timeout=10))
    except grpc.RpcError as error:
        print(error.code().name)


def unknown(stub):
    channel = stub.channel
    call = channel.unary_unary("/outrigger.test.Nothing/Here", request_serializer=M.SerializeToString)
    try:
        call(M(), timeout=10)
    except grpc.RpcError as error:
        print(error.code().name)


def deadline(stub):
    start = time.monotonic()
    try:
        stub.Unary(M(text="slow", delay_ms=8000), timeout=1.5)
    except grpc.RpcError as error:
        print(error.code().name, time.monotonic() - start < 5)


def policy_deadline(stub):
    """The client has all the time of the world, the proxy's policy has not; before and after the head."""
    for text in ("silent", "slow"):
        start = time.monotonic()
        try:
            stub.Unary(M(text=text, delay_ms=8000), timeout=30)
        except grpc.RpcError as error:
            print(error.code().name, time.monotonic() - start < 5)


def remaining(stub):
    print(stub.Unary(M(text="remaining"), timeout=2).text)


def cancel(stub):
    call = stub.Unary.future(M(text="slow", delay_ms=8000), timeout=30)
    # The call has to be under way, which a unary call does not tell: the server is asked.
    while stub.Unary(M(text="waiting"), timeout=20).text == "0":
        pass
    call.cancel()
    try:
        call.result()
    except grpc.FutureCancelledError:
        print("cancelled")


def cancel_stream(stub):
    call = stub.ServerStream(M(text="s", count=1000, delay_ms=20), timeout=30)
    print(next(call).text)
    call.cancel()


def failure(stub):
    try:
        stub.Unary(M(text="x"), timeout=10)
    except grpc.RpcError as error:
        print(error.code().name, bool(error.details()))


def many(stub):
    calls = [stub.Unary.future(M(text=str(i)), timeout=20) for i in range(500)]
    assert [c.result().text for c in calls] == [str(i) for i in range(500)]
    print("ok")


def main():
    address, scenario = sys.argv[1:]
    channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)])
    stub = echo_pb2_grpc.EchoStub(channel)
    stub.channel = channel
    globals()[scenario](stub)


if __name__ == "__main__":
    main()
