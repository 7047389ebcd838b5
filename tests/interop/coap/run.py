#!/usr/bin/env python3
"""CoAP with others: libcoap's, aiocoap's and node-coap's clients against our test server, our client against their servers.

Part of `make interop`; runs from the repository's top, with the Python of `.tools/interop`. With names of groups as
arguments (such as `node`), only those run."""

import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import aio
import libcoap
import node
import ours
from built import build
from harness import Group, Report, has_dtls_socket, has_libcoap, plugtest, uri


def main():
    programs = build("rollcall-coap", "--examples")
    server, client = programs["plugtest"], programs["coap-call"]
    report = Report()
    folder = tempfile.TemporaryDirectory()
    files = Path(folder.name)

    def against_us(name, *parts):
        """Runs parts of a foreign client's checks, one after the other, against a server of their own."""
        group = Group(report, name, "rollcall")
        with plugtest(server) as program:
            for part in parts:
                group.run(lambda group, part=part: part(group, uri(program)))

    def with_dtls(tls):
        """libcoap's client with DTLS, by one of its libraries."""
        group = Group(report, f"libcoap with {tls}", "rollcall")
        parts = (libcoap.basics, libcoap.conditions, libcoap.separate, libcoap.observe, libcoap.wrong_keys,
                 lambda group, base: libcoap.blocks(group, base, files / tls))
        (files / tls).mkdir()
        with plugtest(server, tls) as program:
            base = uri(program).replace("coaps://", f"coaps+{tls}://")
            for part in parts:
                group.run(lambda group, part=part: part(group, base))

    def aiocoap_with_dtls():
        """aiocoap's client with DTLS, by tinydtls."""
        group = Group(report, "aiocoap with tinydtls", "rollcall")
        with plugtest(server, "tinydtls") as program:
            for part in (aio.checks, aio.wrong_keys):
                group.run(lambda group, part=part: part(group, uri(program)))

    def our_client(checks, name):
        Group(report, "rollcall", name).run(lambda group: checks(group, client, files))

    libraries = [tls for tls in ("openssl", "gnutls") if has_libcoap(tls)]
    if not libraries:
        print("coap: libcoap's programs with TLS are not here: DTLS is not tried with them")
    with_aiocoap = {
        "dtls-aiocoap": aiocoap_with_dtls,
        "to-dtls-aiocoap": lambda: our_client(ours.to_aiocoap_with_dtls, "aiocoap with tinydtls"),
    }
    if not has_dtls_socket():
        print("coap: DTLSSocket is not here: DTLS is not tried with aiocoap; scripts/setup-interop.sh says why")
        with_aiocoap = {}
    groups = {
        "libcoap": lambda: against_us("libcoap", libcoap.basics, libcoap.conditions, libcoap.separate, libcoap.discovery,
                                      lambda group, base: libcoap.blocks(group, base, files)),
        "libcoap-observe": lambda: against_us("libcoap", libcoap.observe, libcoap.ends),
        "libcoap-lossy": lambda: against_us("libcoap", lambda group, base: libcoap.lossy(group, base, files)),
        "libcoap-lossy-posts": lambda: against_us("libcoap", libcoap.lossy_posts),
        "aiocoap": lambda: against_us("aiocoap", aio.checks),
        "node": lambda: against_us("node-coap", node.checks),
        "to-libcoap": lambda: our_client(ours.to_libcoap, "libcoap"),
        **{f"dtls-{tls}": lambda tls=tls: with_dtls(tls) for tls in libraries},
        **{f"to-dtls-{tls}": lambda tls=tls: our_client(ours.to_libcoap_with(tls), f"libcoap with {tls}")
           for tls in libraries},
        **with_aiocoap,
        "to-aiocoap": lambda: our_client(ours.to_aiocoap, "aiocoap"),
        "to-node": lambda: our_client(ours.to_node, "node-coap"),
    }
    started = time.monotonic()
    chosen = sys.argv[1:] or list(groups)

    def guarded(name):
        Group(report, name, "all").run(lambda _: groups[name]())

    threads = [threading.Thread(target=guarded, args=[name]) for name in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    folder.cleanup()
    counts = report.counts
    seconds = time.monotonic() - started
    print(f"coap: {counts['ok']} ok, {counts['known']} known faults, {counts['FAILED']} failed; {seconds:.0f} s")
    # Not sys.exit: no library's thread is to hold the end up.
    sys.stdout.flush()
    os._exit(1 if counts["FAILED"] else 0)


if __name__ == "__main__":
    main()
