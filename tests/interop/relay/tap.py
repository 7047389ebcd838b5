"""What goes over the wire between a foreign client and the relay: datagrams pass through here, and are kept."""

import socket
import threading
import time

from aiocoap import Message


class Passed:
    """A message that passed."""

    def __init__(self, at, is_answer, client, data):
        self.at, self.is_answer, self.client = at, is_answer, client
        message = Message.decode(data)
        self.kind, self.id, self.token = message.mtype.name, message.mid, message.token
        self.code = f"{int(message.code) >> 5}.{int(message.code) & 31:02}"
        self.observe, self.block2 = message.opt.observe, message.opt.block2
        self.payload = message.payload

    def __repr__(self):
        way = "<-" if self.is_answer else "->"
        block = f" {self.block2.block_number}/{int(self.block2.more)}" if self.block2 else ""
        observe = "" if self.observe is None else f" Observe:{self.observe}"
        head = f"{self.at:.2f} {self.client} {way} {self.kind} {self.code} {self.id:04x} {{{self.token.hex()}}}"
        return f"{head}{observe}{block} {self.payload[:60]!r}"


class Tap:
    """Listens for clients and passes what they send on to `target`; each has a port of its own there."""

    def __init__(self, target):
        self.target = target
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.listener.bind(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.base = f"coap://127.0.0.1:{self.port}"
        self.upstream, self.lock, self.passed, self.started = {}, threading.Lock(), [], time.monotonic()
        threading.Thread(target=self.forward, daemon=True).start()

    def keep(self, is_answer, client, data):
        with self.lock:
            self.passed.append(Passed(time.monotonic() - self.started, is_answer, client, data))

    def forward(self):
        while True:
            data, client = self.listener.recvfrom(65_535)
            if client not in self.upstream:
                upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                upstream.connect(("127.0.0.1", self.target))
                self.upstream[client] = upstream
                threading.Thread(target=self.back, args=(upstream, client), daemon=True).start()
            self.keep(False, client[1], data)
            self.upstream[client].send(data)

    def back(self, upstream, client):
        while True:
            try:
                data = upstream.recv(65_535)
            except ConnectionRefusedError:
                # The relay has ended.
                return
            self.keep(True, client[1], data)
            self.listener.sendto(data, client)

    def messages(self):
        with self.lock:
            return list(self.passed)

    def endings(self):
        """Observations that clients have ended, by GET with Observe 1 or by a Reset: what each was sent after that."""
        messages, ended = self.messages(), {}
        sent = {(held.client, held.id): held.token for held in messages if held.is_answer and held.observe is not None}
        for held in messages:
            if not held.is_answer and held.observe == 1:
                ended[held.client, held.token] = []
            elif not held.is_answer and held.kind == "RST" and (held.client, held.id) in sent:
                ended[held.client, sent[held.client, held.id]] = []
            elif held.is_answer and held.observe is not None and (held.client, held.token) in ended:
                ended[held.client, held.token].append(held)
        return ended

    def pings(self):
        """Pings that were confirmable, each with whether its client acknowledged it."""
        messages = self.messages()
        acknowledged = {(held.client, held.id) for held in messages if not held.is_answer and held.kind == "ACK"}
        return [(held, (held.client, held.id) in acknowledged) for held in messages
                if held.is_answer and held.kind == "CON" and b'"responseTypes":["ping"]' in held.payload]
