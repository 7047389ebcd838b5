"""Clients of a broker: paho's over MQTT, pika's over AMQP, and many small ones at once."""

import socket
import struct
import threading
import time

import paho.mqtt.client as mqtt
import pika

WITHIN = 20


class Mqtt:
    """One client; it does not come back by itself."""

    def __init__(self, port, client_id, clean, protocol=mqtt.MQTTv311, user="guest"):
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=clean, protocol=protocol,
                                  reconnect_on_failure=False)
        self.client.username_pw_set(user, "guest")
        self.connected, self.acknowledged = threading.Event(), threading.Event()
        self.received, self.granted = [], []
        self.client.on_connect = lambda *_: self.connected.set()
        self.client.on_message = lambda _client, _data, message: self.received.append(message.topic)
        self.client.on_subscribe = self.subscribed
        self.client.connect("127.0.0.1", port, keepalive=30)
        self.client.loop_start()
        if not self.connected.wait(WITHIN):
            raise TimeoutError(f"{client_id} could not connect")

    @property
    def port(self):
        return self.client.socket().getsockname()[1]

    def subscribed(self, _client, _data, _id, codes, _properties):
        self.granted = [code.value for code in codes]
        self.acknowledged.set()

    def subscribe(self, *filters):
        for one in filters:
            self.acknowledged.clear()
            self.client.subscribe(*one)
            if not self.acknowledged.wait(WITHIN):
                raise TimeoutError(f"no answer to a subscription to {one}")

    def unsubscribe(self, topic):
        self.client.unsubscribe(topic)

    def publish(self, topic, count):
        for number in range(count):
            self.client.publish(topic, f"message {number}", 1).wait_for_publish(WITHIN)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def forget(self):
        """The broker ended the connection, or will."""
        self.client.loop_stop()


class Amqp:
    """One connection, which consumes queues and never acknowledges."""

    def __init__(self, port, name, queues, vhost="/"):
        parameters = pika.ConnectionParameters("127.0.0.1", port, vhost, heartbeat=600,
                                               client_properties={"connection_name": name} if name else None)
        self.connection = pika.BlockingConnection(parameters)
        # pika has the socket deep inside; its name is what the broker calls the client by.
        stream = self.connection._impl._transport._sock  # noqa: SLF001
        self.port = stream.getsockname()[1]
        channel = self.connection.channel()
        for queue in queues:
            channel.queue_declare(queue)
            channel.basic_consume(queue, lambda *_: None)

    @property
    def client_id(self):
        return f"amqp091:127.0.0.1:{self.port}"

    def close(self):
        self.connection.close()


class Crowd:
    """Many clean sessions over MQTT 3.1.1, by their first packet alone."""

    def __init__(self, port, prefix, count):
        self.ids = [f"{prefix}{number:04}" for number in range(count)]
        self.sockets = [self.connect(port, client_id) for client_id in self.ids]

    @staticmethod
    def connect(port, client_id):
        def text(value):
            return struct.pack("!H", len(value)) + value.encode()

        # Clean session, user and password; no keep-alive.
        body = text("MQTT") + bytes([4, 0b1100_0010]) + struct.pack("!H", 0) + text(client_id) + text("guest") + text("guest")
        stream = socket.create_connection(("127.0.0.1", port), timeout=WITHIN)
        stream.sendall(bytes([0x10, len(body)]) + body)
        answer = stream.recv(4)
        if answer != b"\x20\x02\x00\x00":
            raise OSError(f"{client_id} was not let in: {answer!r}")
        return stream

    def close(self):
        for stream in self.sockets:
            stream.close()


class Way:
    """A way to a server on the loopback that can be cut and mended."""

    def __init__(self, port):
        self.port_behind, self.is_cut = port, False
        self.streams, self.lock = set(), threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.is_cut:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.port_behind), timeout=WITHIN)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self.lock:
                self.streams |= {client, server}
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self.copy, args=ends, daemon=True).start()

    def copy(self, source, target):
        try:
            while data := source.recv(65_536):
                target.sendall(data)
        except OSError:
            pass
        with self.lock:
            self.streams -= {source, target}
        for stream in (source, target):
            stream.close()

    def cut(self):
        self.is_cut = True
        with self.lock:
            streams = list(self.streams)
        for stream in streams:
            try:
                stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def mend(self):
        self.is_cut = False

    def close(self):
        self.cut()
        self.listener.close()


def eventually(look, is_right, within=45):
    """Looks until it is right, or the time is over; what it saw, and whether it was right."""
    end = time.monotonic() + within
    while True:
        seen = look()
        if is_right(seen):
            return seen, True
        if time.monotonic() > end:
            return seen, False
        time.sleep(0.2)
