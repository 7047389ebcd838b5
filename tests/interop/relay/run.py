#!/usr/bin/env python3
"""A hosted transmitter with others: the vendor's own scripts, and libcoap's, aiocoap's and node-coap's clients, each with a relay
of its own.

Part of `make interop`; runs from the repository's top, with the Python of `.tools/interop`. With names of groups as
arguments (such as `node`), only those run."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "coap"))

import scripts  # noqa: E402 after the path
import transmitter  # noqa: E402
from built import build  # noqa: E402
from clients import Aiocoap, Libcoap, Node  # noqa: E402
from harness import Group, Program, Report, free_port  # noqa: E402
from tap import Tap  # noqa: E402


class Relay:
    """A relay that hosts one transmitter, while the block lasts, with a tap before it."""

    def __init__(self, binary):
        self.binary = binary

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        port = free_port()
        config = Path(self.folder.name, "relay.toml")
        config.write_text(f'data_dir = "{self.folder.name}/spool"\n[monitor]\nlisten = "127.0.0.1:0"\n'
                          f'[[transmitter]]\nname = "desk"\nlisten = "127.0.0.1:{port}"\n')
        self.program = Program([self.binary, "run", "--config", str(config)], says="a transmitter listens",
                               env=os.environ | {"ROLLCALL_LOG": "info"})
        self.program.__enter__()
        self.tap = Tap(port)
        return self

    def __exit__(self, *ended):
        self.program.__exit__(*ended)
        self.folder.cleanup()


def main():
    binary = build("rollcall-relay", "--bins")["rollcall-relay"]
    report = Report("relay")

    def with_client(make):
        with Relay(binary) as relay:
            client, other = make(relay.tap.base), Aiocoap(relay.tap.base)
            Group(report, client.name, "transmitter").run(lambda group: transmitter.checks(group, relay.tap, client, other))
            client.close()

    def with_scripts():
        with Relay(binary) as relay:
            Group(report, "vendor's script", "transmitter").run(
                lambda group: scripts.checks(group, relay.tap, relay.folder.name))

    groups = {
        "scripts": with_scripts,
        "libcoap": lambda: with_client(Libcoap),
        "aiocoap": lambda: with_client(Aiocoap),
        "node": lambda: with_client(Node),
    }
    started = time.monotonic()

    def guarded(name):
        Group(report, name, "all").run(lambda _: groups[name]())

    threads = [threading.Thread(target=guarded, args=[name]) for name in sys.argv[1:] or groups]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = report.counts
    seconds = time.monotonic() - started
    print(f"relay: {counts['ok']} ok, {counts['known']} known faults of others, {counts['FAILED']} failed; {seconds:.0f} s")
    # Not sys.exit: no library's thread is to hold the end up.
    sys.stdout.flush()
    os._exit(1 if counts["FAILED"] else 0)


if __name__ == "__main__":
    main()
