"""A RabbitMQ of our own, on the loopback alone: broker, management and MQTT plugins, in a folder of its own."""

import base64
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

from harness import free_port

# The wrapper in /usr/sbin insists on a user and on paths of its own.
SERVERS = ["/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/homebrew/sbin/rabbitmq-server", "/usr/local/sbin/rabbitmq-server"]
NODE = "rollcall@localhost"
# Of Erlang's start, and of a first start's database.
WITHIN = 90
NOTHING = "^$"


def find_server():
    found = [path for path in SERVERS if Path(path).exists()]
    if not found:
        sys.exit("interop: there is no rabbitmq-server; run scripts/setup-interop.sh")
    return found[0]


class RabbitMq:
    """Runs while the block lasts; may be stopped and started again with what it has on its disk."""

    def __init__(self, folder):
        self.server, self.epmd = None, None
        self.folder = Path(folder, "rabbitmq")
        self.amqp, self.mqtt, self.http, self.distribution, self.epmd_port = (free_port() for _ in range(5))
        self.url = f"http://127.0.0.1:{self.http}"

    def __enter__(self):
        for name in ("mnesia", "log", "home"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.local = 127.0.0.1:{self.amqp}\nmanagement.tcp.ip = 127.0.0.1\n"
            f"management.tcp.port = {self.http}\nmqtt.listeners.tcp.1 = 127.0.0.1:{self.mqtt}\n")
        (self.folder / "plugins").write_text("[rabbitmq_management,rabbitmq_mqtt].\n")
        (self.folder / "environment").write_text("")
        self.as_user = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("rabbitmq")
            for path in [self.folder, *self.folder.rglob("*")]:
                os.chown(path, user.pw_uid, user.pw_gid)
            self.as_user = ["setpriv", "--reuid=rabbitmq", "--regid=rabbitmq", "--init-groups", "--"]
        self.environment = os.environ | {
            # Erlang's map of ports would listen everywhere, and so would a node for others of a cluster.
            "ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_EPMD_PORT": str(self.epmd_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_DIST_PORT": str(self.distribution), "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "environment"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"), "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"), "HOME": str(self.folder / "home"),
        }
        # Started by the server it would outlive it, with nobody who knows its id.
        self.epmd = subprocess.Popen(["epmd", "-port", str(self.epmd_port), "-address", "127.0.0.1"], cwd=self.folder,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.stop()
        if self.epmd:
            self.epmd.terminate()
            self.epmd.wait(10)

    def start(self):
        with open(self.folder / "output", "ab") as output:
            self.server = subprocess.Popen([*self.as_user, find_server()], cwd=self.folder, env=self.environment,
                                           stdout=output, stderr=output)
        end = time.monotonic() + WITHIN
        while True:
            try:
                # Management may be there before those who listen to clients.
                self.get("overview")
                for port in (self.amqp, self.mqtt):
                    socket.create_connection(("127.0.0.1", port), timeout=5).close()
                return
            except (OSError, urllib.error.HTTPError):
                pass
            if self.server.poll() is not None or time.monotonic() > end:
                said = (self.folder / "output").read_text(errors="replace")
                sys.exit(f"interop: RabbitMQ did not start:\n{said[-3000:]}")
            time.sleep(0.2)

    def stop(self):
        """As an operator would: by SIGTERM to the node, whose id it wrote down."""
        if not self.server or self.server.poll() is not None:
            return
        try:
            os.kill(int((self.folder / "pid").read_text()), signal.SIGTERM)
            self.server.wait(60)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            self.server.terminate()
            try:
                self.server.wait(20)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()

    def get(self, path):
        return self.call("GET", path)

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api/{path}", method=method, data=data)
        request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
            return json.loads(text) if text else None

    def add_user(self, name, tags, vhosts):
        self.call("PUT", f"users/{name}", {"password": "secret", "tags": tags})
        for vhost in vhosts:
            rights = {"configure": NOTHING, "write": NOTHING, "read": NOTHING}
            self.call("PUT", f"permissions/{quote(vhost, safe='')}/{name}", rights)

    def add_vhost(self, name):
        self.call("PUT", f"vhosts/{quote(name, safe='')}")
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        self.call("PUT", f"permissions/{quote(name, safe='')}/guest", rights)

    def connections(self):
        """Names of connections, by client id or address."""
        rows = self.get("connections")
        return {row.get("variable_map", {}).get("client_id") or f"{row['peer_host']}:{row['peer_port']}": row["name"]
                for row in rows if "peer_host" in row}

    def kill(self, name):
        self.call("DELETE", f"connections/{quote(name, safe='')}")
