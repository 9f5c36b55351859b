"""One SCTP handshake's first two packets, by hand: the test's kernel has no SCTP sockets.

sctp.py server ADDRESS PORT  answers one INIT, says who asked
sctp.py client ADDRESS PORT  sends an INIT, says who answered
"""

import socket
import struct
import sys

SCTP, INIT, INIT_ACK, SOURCE_PORT, TAG = 132, 1, 2, 4711, 0x01020304


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def packet(source, destination, tag, chunk):
    # Initiate tag, window, streams out and in, first sequence number.
    body = struct.pack("!BBH", chunk, 0, 20) + struct.pack("!IIHHI", TAG, 65535, 1, 1, 1)
    checksum = crc32c(struct.pack("!HHII", source, destination, tag, 0) + body)
    return struct.pack("!HHI", source, destination, tag) + struct.pack("<I", checksum) + body


def receive(raw, port):
    while True:
        data, peer = raw.recvfrom(2048)
        if raw.family == socket.AF_INET:
            data = data[(data[0] & 15) * 4:]
        source, destination, _ = struct.unpack("!HHI", data[:8])
        if destination == port:
            return peer[0], source, data[12], struct.unpack("!I", data[16:20])[0]


def main(role, *rest):
    address, port = (rest[0], int(rest[1]))
    raw = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_RAW, SCTP)
    raw.settimeout(5)
    if role == "server":
        raw.bind((address, 0))
        print("ready", flush=True)
        peer, source, chunk, tag = receive(raw, port)
        assert chunk == INIT, chunk
        raw.sendto(packet(port, source, tag, INIT_ACK), (peer, 0))
        print(peer)
    else:
        raw.sendto(packet(SOURCE_PORT, port, 0, INIT), (address, 0))
        peer, source, chunk, _ = receive(raw, SOURCE_PORT)
        assert chunk == INIT_ACK, chunk
        print(peer, source)


main(*sys.argv[1:])
