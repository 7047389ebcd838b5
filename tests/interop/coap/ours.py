"""Our client against the servers of libcoap, aiocoap and node-coap."""

import subprocess
import sys

import aio
from harness import (DELAY_MS, IDENTITY, KEY, PAYLOAD_4K, PAYLOAD_20K, PERIOD_MS, PSK, Program, Wiretap, free_port, libcoap,
                     libcoap_server, lines, uri)
from node import ENVIRONMENT, HERE

# libcoap's and aiocoap's clients get the same from it.
NODE_BLOCK1 = "node-coap 1.5 as a server answers Block1 with 5.00 \"Byte offset not the next in line\": it takes blocks for one " \
              "body by their token (_toCacheKey in lib/server.js), which may change (RFC 7959, section 3.3)"
NODE_BLOCK2 = "node-coap 1.5 as a server sends empty blocks where 16 bytes are asked for: the option's value is empty then " \
              "(parseBlock2 in lib/helpers.js)"

# Whoever has to speak to such a server has to turn that off there.
DIMPL_RENEGOTIATION = "dimpl 0.9 as a client sends no renegotiation_info (RFC 5746, section 3.4), and tinydtls as a server (DTLSSocket " \
                      "0.2.3) insists on it (force_renegotiation_info in dtls.c): it answers our ClientHello with its cookie by the " \
                      "alert handshake_failure"
# A fatal alert in a record of DTLS 1.2: handshake_failure.
HANDSHAKE_FAILURE = bytes([2, 40])


class Ours:
    def __init__(self, group, program, base, *flags):
        self.group, self.program, self.base, self.flags = group, program, base, flags

    def call(self, what, path, *arguments, is_right=lambda body: True, code="2.05", known=None):
        """One call; what came of it is checked."""
        command = [self.program, *self.flags, *arguments, self.base + path]
        done = subprocess.run(command, capture_output=True, timeout=60)
        said = done.stderr.decode()
        codes = [line.split()[0] for line in said.splitlines() if line]
        ok = codes and set(codes) == {code} and done.returncode == (0 if code.startswith("2") else 1) and is_right(done.stdout)
        self.group.check(what, ok, " ".join(command), f"exit {done.returncode}, {said!r}, {done.stdout[:400]!r}", known)
        return done.stdout


def basics(ours):
    for mode, flags in (("CON", ()), ("NON", ("-N",))):
        ours.call(f"GET, {mode}", "/test", *flags, is_right=lambda body: body == b"the resource /test")
        ours.call(f"PUT, {mode}", "/test", *flags, "-m", "put", "-f", "0", "-e", "new", code="2.04")
        ours.call(f"GET sees what PUT as {mode} put", "/test", *flags, is_right=lambda body: body == b"new")
        ours.call(f"POST, {mode}", "/test", *flags, "-m", "post", "-f", "0", "-e", "x", code="2.01")
        ours.call(f"DELETE, {mode}", "/test", *flags, "-m", "delete", code="2.02")
        ours.call(f"a separate answer, {mode}", "/separate", *flags, is_right=lambda body: body == b"a separate answer")
    ours.call("no such resource: 4.04", "/nowhere", code="4.04")


def blocks(ours, files, known=None, known_16=None):
    for exponent in (0, 2, 6):
        ours.call(f"Block2, {16 << exponent}", "/large", "-b", str(exponent), is_right=lambda body: body == lines(0, 2048),
                  known=known_16 if exponent == 0 else None)
    for payload in (PAYLOAD_4K, PAYLOAD_20K):
        file = files / f"ours-{len(payload)}"
        file.write_bytes(payload)
        for exponent in (2, 6):
            length = f"{len(payload):,} bytes in {16 << exponent}s"
            ours.call(f"Block1 PUT of {length}", "/large-update", "-b", str(exponent), "-m", "put", "-f", "0", "--file",
                      str(file), code="2.04", known=known)
            ours.call(f"Block2 of {length}", "/large-update", "-b", str(exponent), is_right=lambda body: body == payload,
                      known=known)
            ours.call(f"Block1 and Block2 in one POST of {length}", "/large-post", "-b", str(exponent), "-m", "post", "-f", "0",
                      "--file", str(file), code="2.04", is_right=lambda body: body == payload, known=known)


def rising(body):
    numbers = [int(line) for line in body.split()]
    return len(numbers) >= 4 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def large(body):
    """Bodies of /obs-large, each with a line's end after it: they begin one line later each."""
    bodies = body.split(b"\n\n")[:-1]
    return len(bodies) >= 3 and all(
        held + b"\n" == lines(int(held.split()[1]), 2048) for held in bodies)


def to_aiocoap(group, program, files):
    with Program([sys.executable, str(HERE / "aiocoap_server.py"), str(free_port())], says="listening on ") as server:
        ours = Ours(group, program, uri(server))
        basics(ours)
        blocks(ours, files)
        ours.call("a format that is not to be had: 4.06", "/not-acceptable", "-A", "50", code="4.06")
        ours.call("observe: several notifications", "/obs", "-o", "3", is_right=rising)
        ours.call("observe, in blocks", "/obs-large", "-o", "3", is_right=large)
        ours.call("observe anew after a cancel", "/obs", "-o", "3", is_right=rising)


def to_aiocoap_with_dtls(group, program, _):
    """It does not come to a session: what stands in the way is still what it was."""
    with Program([sys.executable, str(HERE / "aiocoap_server.py"), str(free_port()), "dtls"], says="listening on ") as server:
        base = uri(server)
        with Wiretap(int(base.rsplit(":", 1)[1])) as wire:
            command = [program, "--psk", PSK, f"coaps://127.0.0.1:{wire.port}/test"]
            done = subprocess.run(command, capture_output=True, timeout=60)
        said = f"exit {done.returncode}, {done.stderr!r}, {[datagram.hex() for datagram in wire.from_server]}"
        group.check("GET", done.returncode == 0, " ".join(command), said, known=DIMPL_RENEGOTIATION)
        # A request for the cookie, and then the alert; tinydtls sends a goodbye before it.
        first, *others = wire.from_server or [b""]
        alerts = [datagram[13:] for datagram in others if datagram[:1] == bytes([21])]
        is_the_same = first[13:14] == bytes([3]) and len(alerts) == len(others) and HANDSHAKE_FAILURE in alerts
        group.check("it refuses as it is known to (where this fails, look whether it works now)",
                    is_the_same and done.returncode == 1 and b"refuses it" in done.stderr, " ".join(command), said)
        aio.get(group, base)


def to_node(group, program, files):
    command = ["node", str(HERE / "node_server.js"), str(free_port()), str(PERIOD_MS), str(DELAY_MS)]
    with Program(command, says="listening on ", env=ENVIRONMENT) as server:
        ours = Ours(group, program, uri(server))
        basics(ours)
        blocks(ours, files, known=NODE_BLOCK1, known_16=NODE_BLOCK2)
        ours.call("observe: several notifications", "/obs", "-o", "3", is_right=rising)


def to_libcoap(group, program, files):
    with libcoap_server("-d", "10") as port:
        with_libcoap(Ours(group, program, f"coap://127.0.0.1:{port}"), files)


def to_libcoap_with(tls):
    """The same with DTLS."""
    def checks(group, program, files):
        port = free_port()
        # With DTLS it listens on the next port.
        with Program([libcoap("coap-server", tls), "-A", "127.0.0.1", "-p", str(port), "-d", "10", "-k", KEY]):
            base = f"coaps://127.0.0.1:{port + 1}"
            with_libcoap(Ours(group, program, base, "--psk", PSK), files)
            command = [program, "--psk", f"{IDENTITY}:{'00' * 16}", f"{base}/"]
            done = subprocess.run(command, capture_output=True, timeout=60)
            ok = done.returncode == 1 and b"no secure session" in done.stderr
            group.check("a wrong key fails", ok, " ".join(command), f"exit {done.returncode}, {done.stderr!r}")

    return checks


def with_libcoap(ours, files):
    for mode, flags in (("CON", ()), ("NON", ("-N",))):
        ours.call(f"GET, {mode}", "/", *flags, is_right=lambda body: b"libcoap" in body)
        ours.call(f"PUT that creates, {mode}", f"/new{mode}", *flags, "-m", "put", "-f", "0", "-e", "new", code="2.01")
        ours.call(f"PUT that changes, {mode}", f"/new{mode}", *flags, "-m", "put", "-f", "0", "-e", "newer", code="2.04")
        ours.call(f"GET sees what PUT as {mode} put", f"/new{mode}", *flags, is_right=lambda body: body == b"newer")
        ours.call(f"DELETE, {mode}", f"/new{mode}", *flags, "-m", "delete", code="2.02")
        ours.call(f"POST, which it does not have, {mode}", "/", *flags, "-m", "post", "-e", "x", code="4.05")
        ours.call(f"a separate answer, {mode}", "/async?1", *flags, is_right=lambda body: body == b"done")
    ours.call("no such resource: 4.04", "/nowhere", code="4.04")
    ours.call("/.well-known/core", "/.well-known/core", is_right=lambda body: b"</time>" in body)
    ours.call("PUT of what was not put yet", "/example_data", "-m", "put", "-f", "0", "-e", "x", code="2.01")
    for payload in (PAYLOAD_4K, PAYLOAD_20K):
        file = files / f"libcoap-{len(payload)}"
        file.write_bytes(payload)
        for exponent in (2, 6):
            length = f"{len(payload):,} bytes in {16 << exponent}s"
            ours.call(f"Block1 PUT of {length}", "/example_data", "-b", str(exponent), "-m", "put", "-f", "0", "--file",
                      str(file), code="2.04")
            ours.call(f"Block2 of {length}", "/example_data", "-b", str(exponent), is_right=lambda body: body == payload)
    ours.call("observe: several notifications", "/time", "-o", "4", is_right=lambda body: len(body.splitlines()) >= 4)
    ours.call("observe anew after a cancel", "/time", "-o", "3", is_right=lambda body: len(body.splitlines()) >= 3)
