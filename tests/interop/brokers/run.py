#!/usr/bin/env python3
"""A RabbitMQ of our own with real clients, watched by a relay: what Rollcall serves is compared with what the clients did.

Part of `make interop`; runs from the repository's top, with the Python of `.tools/interop`. Takes the file that
`rollcall up --ready-file` writes; with names of groups after it (such as `AMQP`), only those run."""

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "coap"))

import checks  # noqa: E402 after the path
from built import build  # noqa: E402
from clients import Way  # noqa: E402
from harness import Group, Report  # noqa: E402
from rabbitmq import RabbitMq  # noqa: E402
from rollcall import Cloud, Relay  # noqa: E402


def make_relay(ready):
    """A relay's key, as an operator gets one."""
    program = build("rollcall-api", "--bins")["rollcall-api"]
    done = subprocess.run([program, "admin", "relay", "--database-url", ready["postgres"], "create", "--json",
                           "--organization", ready["organization"], "--project", str(ready["project_id"]), "--name",
                           f"brokers-{os.getpid()}"], text=True, stdout=subprocess.PIPE, check=True)
    key = json.loads(done.stdout)
    return f"{key['id']}:{key['secret']}"


def rights(group, binary, folder, broker):
    """Who may not see everything is told so, and not believed."""
    for user, words, more in [
        ("blind", ["no tag `monitoring`", "set_user_tags blind monitoring"], ""),
        ("outside", ["no permission in vhost `/`", "set_permissions"], ""),
        ("watcher", ["no permission in vhost `blue sky`"], 'vhost = "all"\n'),
        ("watcher", ["there is no vhost `none`"], 'vhost = "none"\n'),
        ("watcher", ["find exchange `mqtt`"], 'exchange = "mqtt"\n'),
        ("nobody", ["401 Unauthorized", "Login failed"], ""),
    ]:
        said, is_fine = Relay(binary, Path(folder, f"check-{user}-{len(more)}"), broker.url, more, user=user).check()
        ok = not is_fine and all(word in said for word in words)
        group.check(f"check as {user} {more.strip()}", ok, words, said)
    said, is_fine = Relay(binary, Path(folder, "check"), broker.url).check()
    words = ["RabbitMQ 3.", "vhost `/`", "MQTT sessions connected", "AMQP connections"]
    group.check("check as a user who may see all", is_fine and all(word in said for word in words), words, said)


def main():
    ready = json.loads(Path(sys.argv[1]).read_text())
    binary = build("rollcall-relay", "--bins")["rollcall-relay"]
    report, cloud, started = Report("brokers"), Cloud(ready), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        # RabbitMQ runs as another user where this is root.
        os.chmod(folder, 0o755)
        with RabbitMq(folder) as broker:
            broker.add_vhost("blue sky")
            broker.add_user("watcher", "monitoring", ["/"])
            broker.add_user("blind", "management", ["/"])
            broker.add_user("outside", "monitoring", ["blue sky"])
            chosen = sys.argv[2:]
            if not chosen or "rights" in chosen:
                Group(report, "relay", "rights").run(lambda group: rights(group, binary, folder, broker))
            way = Way(broker.http)
            to = (ready["http"], make_relay(ready))
            with Relay(binary, Path(folder, "relay"), f"http://127.0.0.1:{way.port}", cloud=to) as relay:
                def run(name, part):
                    if not chosen or name in chosen:
                        Group(report, "clients", name).run(
                            lambda group: part(checks.Checks(group, broker, cloud, relay, way)))

                with ThreadPoolExecutor(len(checks.TOGETHER)) as together:
                    together.map(run, *zip(*checks.TOGETHER.items()))
                for name, part in checks.APART.items():
                    run(name, part)
            way.close()
    counts = report.counts
    print(f"brokers: {counts['ok']} ok, {counts['FAILED']} failed; {time.monotonic() - started:.0f} s")
    # Not sys.exit: no library's thread is to hold the end up.
    sys.stdout.flush()
    os._exit(1 if counts["FAILED"] else 0)


if __name__ == "__main__":
    main()
