"""A client of the Container Runtime Interface that upstream's own description of it and Google's gRPC make: it shares no code with
the runtime that it asks.

    cri.py SOCKET call METHOD [REQUEST]     one call, request and answer as JSON; a refusal is its code and words, on standard error
    cri.py SOCKET exec|attach ID [ARG...]   as crictl does it: the call answers a URL, which a WebSocket is opened to; standard
                                            input goes in, both outputs come out, the exit code is this program's
    cri.py SOCKET port-forward ID PORT      standard input to the port, what it answers to standard output
    cri.py SOCKET kubectl PORT PROXY exec|attach|port-forward ID [ARG...]
                                            a server at PORT that is the one of `kubectl proxy` at PROXY, save that a kubectl which
                                            wants streams gets those of the runtime: what crictl speaks is the code of kubectl
    cri.py SOCKET spoil                     what no client should send, and whether the server is there afterwards

The modules api_pb2 and api_pb2_grpc are generated beside the environment (scripts/clients.sh).
"""

import json
import pathlib
import socket
import sys
import threading
import urllib.parse

import grpc
import websocket
from google.protobuf import json_format

sys.path.insert(0, str(pathlib.Path(sys.executable).parent.parent / "cri"))
import api_pb2  # noqa: E402

SERVICES = {
    method.name: (service.full_name, method)
    for service in api_pb2.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
SECONDS = 60


def channel(path):
    # As crictl has it. Unsaid, it would be the path, which is no authority to HTTP/2.
    options = [("grpc.default_authority", "localhost")]
    options += [("grpc.max_receive_message_length", 16 << 20), ("grpc.max_send_message_length", -1)]
    return grpc.insecure_channel(f"unix:{path}", options=options)


def call(connection, name, request, timeout=SECONDS):
    service, method = SERVICES[name]
    ask = connection.unary_unary(
        f"/{service}/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=getattr(api_pb2, method.output_type.name).FromString,
    )
    message = json_format.ParseDict(request, getattr(api_pb2, method.input_type.name)())
    return ask(message, timeout=timeout)


def opened(url, protocols):
    """Without a library's own proxy settings or TLS: the URL is of this host's loopback."""
    place = urllib.parse.urlparse(url)
    if place.hostname != "127.0.0.1":
        sys.exit(f"{url} is not of this host alone")
    return websocket.create_connection(url.replace("http", "ws", 1), timeout=SECONDS, subprotocols=protocols)


def streams(url):
    """Returns the exit code."""
    connection = opened(url, ["v5.channel.k8s.io"])
    given = sys.stdin.buffer.read()
    if given:
        connection.send_binary(b"\0" + given)
        connection.send_binary(b"\xff\0")
    while True:
        try:
            frame = connection.recv()
        except websocket.WebSocketConnectionClosedException:
            sys.exit("the session ended without a status")
        if not frame:
            continue
        number, data = frame[0], frame[1:]
        if number in (1, 2):
            output = sys.stdout.buffer if number == 1 else sys.stderr.buffer
            output.write(data)
            output.flush()
        elif number == 3:
            status = json.loads(data)
            connection.close()
            if status.get("status") == "Success":
                return 0
            causes = status.get("details", {}).get("causes", [])
            codes = [cause["message"] for cause in causes if cause.get("reason") == "ExitCode"]
            return int(codes[0]) if codes else sys.exit(status.get("message"))


def forwarded(url):
    connection = opened(url, ["v4.channel.k8s.io"])
    connection.send_binary(b"\0" + sys.stdin.buffer.read())
    begun = set()
    while True:
        try:
            frame = connection.recv()
        except websocket.WebSocketConnectionClosedException:
            return
        if not frame:
            return
        # The first frame of each channel is the port's number.
        if frame[0] not in begun:
            begun.add(frame[0])
            continue
        if frame[0] == 1:
            sys.exit(frame[1:].decode())
        sys.stdout.buffer.write(frame[1:])
        sys.stdout.buffer.flush()


def carry(source, target):
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        # Whoever hangs up has ended the session.
        target.close()


def behind(path, port, proxy, verb, *rest):
    """Streams are asked for on connections of their own, all else goes through."""
    listener = socket.create_server(("127.0.0.1", int(port)))
    print("listening", flush=True)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=through, args=(path, client, proxy, verb, rest), daemon=True).start()


def through(path, client, proxy, verb, rest):
    head = b""
    while b"\r\n\r\n" not in head:
        data = client.recv(4096)
        if not data:
            return
        head += data
    place = ("127.0.0.1", int(proxy))
    if b"spdy/3.1" in head.lower():
        with channel(path) as connection:
            url = urllib.parse.urlparse(asked(connection, verb, *rest))
        place = (url.hostname, url.port)
        method, _, after = head.split(b" ", 2)
        head = b" ".join([method, url.path.encode(), after])
    server = socket.create_connection(place)
    server.sendall(head)
    threading.Thread(target=carry, args=(server, client), daemon=True).start()
    carry(client, server)


def asked(connection, verb, identity, *rest):
    """The URL that streams are behind."""
    both = {"containerId": identity, "stdin": True, "stdout": True, "stderr": True}
    if verb == "exec":
        return call(connection, "Exec", both | {"cmd": rest}).url
    if verb == "attach":
        return call(connection, "Attach", both).url
    return call(connection, "PortForward", {"podSandboxId": identity, "port": [int(port) for port in rest]}).url


def spoil(path):
    def code(method, body, timeout=SECONDS):
        with channel(path) as connection:
            ask = connection.unary_unary(method, request_serializer=lambda data: data, response_deserializer=lambda data: data)
            try:
                ask(body, timeout=timeout)
                return "OK"
            except grpc.RpcError as error:
                return error.code().name

    runtime = "/runtime.v1.RuntimeService/"
    found = {
        "a method that there is not": code(runtime + "Juggle", b""),
        "an older version of the interface": code("/runtime.v1alpha2.RuntimeService/Version", b""),
        "a message cut short": code(runtime + "StopContainer", b"\x0a\x7fabc"),
        "a field of another type": code(runtime + "RunPodSandbox", b"\x08\x01"),
        "text that is no UTF-8": code(runtime + "StopContainer", b"\x0a\x02\xff\xfe"),
        "a message over the limit": code(runtime + "Version", b"\x0a" + b"\xff" * (17 << 20)),
    }
    for junk in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 4096, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(path))
            stranger.sendall(junk)
            stranger.shutdown(socket.SHUT_WR)
            stranger.settimeout(SECONDS)
            try:
                while stranger.recv(4096):
                    pass
            except ConnectionResetError:
                pass
    found["afterwards"] = code(runtime + "Version", b"")
    print(json.dumps(found))


def main():
    path, verb, *rest = sys.argv[1:]
    if verb == "spoil":
        return spoil(path)
    if verb == "kubectl":
        return behind(path, *rest)
    with channel(path) as connection:
        if verb == "call":
            request = json.loads(rest[1]) if len(rest) > 1 else {}
            print(json_format.MessageToJson(call(connection, rest[0], request), always_print_fields_with_no_presence=True))
        elif verb in ("exec", "attach"):
            sys.exit(streams(asked(connection, verb, *rest)))
        elif verb == "port-forward":
            forwarded(asked(connection, verb, *rest))
        else:
            sys.exit(__doc__)


try:
    main()
except grpc.RpcError as failure:
    sys.exit(f"{failure.code().name}: {failure.details()}")
