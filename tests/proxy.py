"""A TCP proxy that breaks connections on demand, to stand between the service and its database or bus."""

import contextlib
import socket
import struct
import threading

import servers

PATIENCE_S = 60
OPEN, HELD, SWALLOWED = "open", "held", "swallowed"


class Proxy:
    """Forwards connections on `port` of `address` to a port of 127.0.0.1, or to where `target()` says for each. A context manager.

        cut()              resets the connections there are; new ones are served
        refuse()           the same, and new ones are refused
        black_hole()       nothing is forwarded any more, and nobody is told; heal() lets it through, late
        swallow_replies()  requests are forwarded, replies are lost; wait_swallowed() waits for one, then cut()
        heal()             back to forwarding"""

    def __init__(self, target, address="127.0.0.1"):
        self.target = target if callable(target) else lambda: ("127.0.0.1", target)
        self.address = address
        self.gate = threading.Condition()
        self.requests = self.replies = OPEN
        self.swallowed = 0
        self.connections = set()
        self.accepted = 0
        self.listener = None
        self.port = servers.free_port(address)
        self._listen()

    def _listen(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.address, self.port))
        listener.listen(128)
        self.listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # it was closed
                return
            try:
                server = socket.create_connection(self.target(), PATIENCE_S)
                server.settimeout(None)
            except OSError:
                reset(client)
                continue
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.gate:
                if listener is not self.listener:  # refuse() came between
                    reset(client)
                    reset(server)
                    return
                self.connections.add((client, server))
                self.accepted += 1
                self.gate.notify_all()
            for source, sink, replies in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=(source, sink, replies, (client, server)), daemon=True).start()

    def _pump(self, source, sink, replies, pair):
        """One direction. What was read while the way is held is passed on when it is healed, as a network does it."""
        with contextlib.suppress(OSError):
            while True:
                data = source.recv(65536)
                with self.gate:
                    while (self.replies if replies else self.requests) == HELD and pair in self.connections:
                        self.gate.wait()
                    if replies and self.replies == SWALLOWED and data:
                        self.swallowed += len(data)
                        self.gate.notify_all()
                        continue
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
        with self.gate:
            known = pair in self.connections
            self.connections.discard(pair)
        if known:
            for each in pair:
                reset(each)

    def _set(self, requests, replies):
        with self.gate:
            self.requests, self.replies = requests, replies
            self.gate.notify_all()

    def cut(self):
        with self.gate:
            cut, self.connections = self.connections, set()
            self.gate.notify_all()
        for pair in cut:
            for each in pair:
                reset(each)

    def refuse(self):
        with self.gate:
            listener, self.listener = self.listener, None
        if listener:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def black_hole(self):
        self._set(HELD, HELD)

    def swallow_replies(self):
        with self.gate:
            self.swallowed = 0
        self._set(OPEN, SWALLOWED)

    def wait_swallowed(self, least=1):
        with self.gate:
            if not self.gate.wait_for(lambda: self.swallowed >= least, PATIENCE_S):
                raise RuntimeError("no reply came that could be swallowed")

    def heal(self):
        self._set(OPEN, OPEN)
        if not self.listener:
            self._listen()

    def close(self):
        self._set(OPEN, OPEN)
        self.refuse()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def reset(connection):
    """Ends a connection at once, with a reset for its peer; wakes the thread that reads from it."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        # Without this the descriptor would stay in use by the reader, and nothing would be sent.
        connection.shutdown(socket.SHUT_RD)
    connection.close()
