"""libcoap's client against our server. What went over the wire is read from its log."""

import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from harness import IDENTITY, KEY, PAYLOAD_4K, PAYLOAD_20K, libcoap, lines

MESSAGE = re.compile(r"(sent|received) \d+ bytes\nv:1 t:(\w+) c:([\w.]+) i:\w{4} \{(\w*)\} \[ (.*?) ?\](?: :: (.*))?")


class Seen:
    """What a run of the client showed."""

    def __init__(self, command, log, payload):
        self.command, self.log, self.payload = command, log, payload
        found = [match.groups() for match in MESSAGE.finditer(log)]
        self.sent = [message[1:] for message in found if message[0] == "sent"]
        self.received = [message[1:] for message in found if message[0] == "received"]
        # The last answer: kind, code, options.
        answers = [message for message in self.received if message[1] not in ("0.00", "2.31")]
        self.kind, self.code, self.options = (answers[-1][0], answers[-1][1], answers[-1][3]) if answers else ("",) * 3

    def numbers(self):
        """The sequence numbers of notifications."""
        return [int(number) for message in self.received for number in re.findall(r"Observe:(\d+)", message[3])]


def call(*arguments, timeout=60):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "payload")
        *flags, uri = arguments
        # `coaps+gnutls://` names the library too.
        scheme, rest = uri.split("://")
        if scheme.startswith("coaps+"):
            client = [libcoap("coap-client", scheme.removeprefix("coaps+")), "-u", IDENTITY, "-k", KEY]
            uri = f"coaps://{rest}"
        else:
            client = [libcoap("coap-client")]
        command = [*client, "-v", "7", "-o", str(out), *flags, uri]
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
                              errors="replace")
        return Seen(" ".join(command), done.stdout, out.read_bytes() if out.exists() else b"")


def check(group, what, seen, ok):
    group.check(what, ok, seen.command, f"payload {seen.payload[:200]!r}\n{seen.log}")


def basics(group, base):
    for mode, flags, kind in (("CON", (), "ACK"), ("NON", ("-N",), "NON")):
        for method, arguments, codes in (("GET", (), ["2.05"]), ("PUT", ("-e", "new", "-t", "0"), ["2.04"]),
                                         ("POST", ("-e", "new", "-t", "0"), ["2.01"]), ("DELETE", (), ["2.02"])):
            seen = call(*flags, "-m", method.lower(), *arguments, f"{base}/test")
            check(group, f"{method}, {mode}", seen, seen.kind == kind and seen.code in codes)
            if method == "PUT":
                seen = call(f"{base}/test")
                check(group, f"GET sees what PUT as {mode} put", seen, seen.payload == b"new")
    seen = call("-T", "12345678", f"{base}/test")
    check(group, "a token of eight bytes comes back", seen, seen.code == "2.05" and seen.received[-1][2] != "")
    seen = call(f"{base}/seg1/seg2/seg3")
    check(group, "several segments of a path", seen, seen.code == "2.05" and seen.payload == b"three segments")
    seen = call(f"{base}/query?first=1&second=2&third=3")
    check(group, "several parts of a query", seen, seen.payload == b"query: first=1&second=2&third=3")
    seen = call("-m", "post", "-e", "x", f"{base}/create2")
    wanted = "Location-Path:location1, Location-Path:location2, Location-Path:location3"
    check(group, "Location-Path", seen, seen.code == "2.01" and wanted in seen.options)
    seen = call("-m", "post", "-e", "x", f"{base}/location-query")
    wanted = "Location-Query:first=1, Location-Query:second=2"
    check(group, "Location-Query", seen, seen.code == "2.01" and wanted in seen.options)
    for accept, code, form in (("0", "2.05", "text/plain"), ("41", "2.05", "application/xml"), ("50", "4.06", "")):
        seen = call("-A", accept, f"{base}/multi-format")
        check(group, f"Accept {accept}", seen, seen.code == code and form in seen.options)
    seen = call(f"{base}/nowhere")
    check(group, "no such resource: 4.04", seen, seen.code == "4.04")
    seen = call("-m", "delete", f"{base}/large")
    check(group, "no such method: 4.05", seen, seen.code == "4.05")
    seen = call("-O", "9,0x01", f"{base}/test")
    check(group, "a critical option that nobody knows: 4.02", seen, seen.code == "4.02")


def conditions(group, base):
    seen = call(f"{base}/validate")
    tag = re.search(r"ETag:0x(\w+)", seen.options)
    check(group, "an ETag", seen, seen.code == "2.05" and tag)
    tag = tag.group(1)
    seen = call("-O", f"4,0x{tag}", f"{base}/validate")
    check(group, "ETag: 2.03 without a payload", seen, seen.code == "2.03" and tag in seen.options and not seen.payload)
    seen = call("-O", f"1,0x{tag}", "-m", "put", "-e", "other", f"{base}/validate")
    check(group, "If-Match with what is there: 2.04", seen, seen.code == "2.04")
    seen = call("-O", f"1,0x{tag}", "-m", "put", "-e", "third", f"{base}/validate")
    check(group, "If-Match with what was there: 4.12", seen, seen.code == "4.12")
    seen = call("-O", f"4,0x{tag}", f"{base}/validate")
    check(group, "ETag of what was there: 2.05", seen, seen.code == "2.05" and seen.payload == b"other")
    for code in ("2.01", "4.12"):
        seen = call("-O", "5,", "-m", "put", "-e", "x", f"{base}/create1")
        check(group, f"If-None-Match: {code}", seen, seen.code == code)


def separate(group, base):
    seen = call(f"{base}/separate")
    kinds = [(message[0], message[1]) for message in seen.received]
    ok = kinds == [("ACK", "0.00"), ("CON", "2.05")] and seen.sent[-1][:2] == ("ACK", "0.00")
    check(group, "a separate answer, CON", seen, ok)
    seen = call("-N", f"{base}/separate")
    check(group, "a separate answer, NON", seen, [(message[0], message[1]) for message in seen.received] == [("NON", "2.05")])
    # It is silent for a second while it waits.
    seen = call("-K", "1", f"{base}/separate")
    pinged = ("CON", "0.00") in [message[:2] for message in seen.sent]
    check(group, "a ping is answered by a Reset", seen, pinged and "RST" in [message[0] for message in seen.received])


def blocks(group, base, files):
    for size in (None, "16", "64", "1024"):
        flags = ("-b", size) if size else ()
        seen = call(*flags, f"{base}/large")
        check(group, f"Block2, {size or 'late'}", seen, seen.payload == lines(0, 2048) and f"/{size or 1024}" in seen.options)
    seen = call("-N", "-b", "256", f"{base}/large")
    check(group, "Block2, NON", seen, seen.payload == lines(0, 2048))
    for name, body in (("4,000", PAYLOAD_4K), ("20,000", PAYLOAD_20K)):
        file = files / name
        file.write_bytes(body)
        for size in ("64", "1024"):
            call("-m", "delete", f"{base}/large-update")
            seen = call("-b", size, "-m", "put", "-f", str(file), f"{base}/large-update")
            check(group, f"Block1 PUT of {name} bytes in {size}s", seen, seen.code == "2.04" and f"/_/{size}" in seen.options)
            seen = call("-b", size, f"{base}/large-update")
            check(group, f"Block2 of {name} bytes in {size}s", seen, seen.payload == body)
        seen = call("-m", "post", "-f", str(file), f"{base}/large-create")
        path = "/".join(re.findall(r"Location-Path:([^,\] ]+)", seen.options))
        check(group, f"Block1 POST of {name} bytes creates", seen, seen.code == "2.01" and path.startswith("large-create/"))
        seen = call(f"{base}/{path}")
        check(group, f"GET of what POST created with {name} bytes", seen, seen.payload == body)
        seen = call("-b", "256", "-m", "post", "-f", str(file), f"{base}/large-post")
        check(group, f"Block1 and Block2 in one POST of {name} bytes", seen, seen.code == "2.04" and seen.payload == body)


def rising(numbers, least):
    return len(numbers) >= least and all(before < after for before, after in zip(numbers, numbers[1:]))


def observe(group, base):
    for path, kind in (("obs", "CON"), ("obs-non", "NON")):
        seen = call("-s", "2", f"{base}/{path}")
        kinds = {message[0] for message in seen.received if "Observe:" in message[3]}
        check(group, f"observe /{path}: several notifications, {kind}", seen, rising(seen.numbers(), 4) and kind in kinds)
        check(group, f"observe /{path}: cancelled", seen, "Observe:1" in " ".join(message[3] for message in seen.sent))
    seen = call("-s", "2", f"{base}/obs-large")
    check(group, "observe /obs-large: in blocks", seen, rising(seen.numbers(), 3) and len(seen.payload) % 2048 == 0)
    for path in ("obs-pumping", "obs-pumping-non"):
        seen = call("-s", "2", f"{base}/{path}")
        ends = [message for message in seen.received if "Block2" in message[3] and "/_/" in message[3]]
        check(group, f"observe /{path}: sizes that change", seen, rising(seen.numbers(), 3) and len(ends) >= 2)


def ends(group, base):
    """What somebody else does to an observed resource."""
    for what, arguments, code in (("a PUT is shown", ("-m", "put", "-t", "0", "-e", "by hand"), None),
                                  ("POST to /obs-reset is shown", ("-m", "post", "-t", "0", "-e", "by hand"), None),
                                  ("another format ends it: 4.06", ("-m", "put", "-t", "50", "-e", "{}"), "4.06"),
                                  ("DELETE ends it: 4.04", ("-m", "delete"), "4.04")):
        path = "obs-reset" if "POST" in what else "obs"
        other = threading.Thread(target=lambda: (time.sleep(0.6), call(*arguments, f"{base}/{path}")))
        other.start()
        seen = call("-s", "2", f"{base}/{path}")
        other.join()
        if code:
            last = [message for message in seen.received if message[1] == code]
            after = seen.received[seen.received.index(last[0]) + 1:] if last else []
            quiet = not any("Observe:" in message[3] for message in after)
            check(group, f"observe: {what}", seen, last and "Observe:" not in last[0][3] and quiet)
        else:
            check(group, f"observe: {what}", seen, b"by hand" in seen.payload)
    call("-m", "delete", f"{base}/obs")


def discovery(group, base):
    for query, links in (("rt=Type1", {"/link1", "/link3"}), ("rt=Type2", {"/link1", "/link2"}), ("if=If*", {"/link1", "/link2"}),
                         ("sz=*", {"/large", "/large-update", "/obs-large"}), ("href=/link1", {"/link1"}),
                         ("href=/link*", {"/link1", "/link2", "/link3"})):
        seen = call(f"{base}/.well-known/core?{query}")
        found = set(re.findall(r"<(.*?)>", seen.payload.decode()))
        check(group, f"/.well-known/core?{query}", seen, found == links and "application/link-format" in seen.options)
    seen = call(f"{base}/.well-known/core?rt=*")
    values = seen.payload.decode().split(",<")
    check(group, "/.well-known/core?rt=*", seen, len(values) > 3 and all(";rt=" in value for value in values))
    seen = call(f"{base}/.well-known/core")
    check(group, "/.well-known/core", seen, b"</path>;ct=40" in seen.payload and b"</test>" in seen.payload)
    seen = call(f"{base}/path")
    check(group, "links below /path", seen, seen.payload.count(b"</path/sub") == 3)
    seen = call(f"{base}/path/sub1")
    check(group, "/path/sub1", seen, seen.payload == b"/path/sub1")


def lossy(group, base, files):
    """A fifth of what the client sends is lost; then certain datagrams are."""
    file = files / "lossy"
    file.write_bytes(PAYLOAD_4K)
    for what, loss in (("every fifth lost by chance", "20%"), ("the first lost", "1")):
        seen = call("-l", loss, f"{base}/test")
        check(group, f"GET, {what}", seen, seen.code == "2.05" and seen.payload)
    for what, loss in (("every fifth lost by chance", "20%"), ("the second and the fourth lost", "2,4")):
        seen = call("-l", loss, "-b", "512", f"{base}/large")
        check(group, f"Block2, {what}", seen, seen.payload == lines(0, 2048))
        seen = call("-l", loss, "-b", "512", "-m", "put", "-f", str(file), f"{base}/large-update")
        check(group, f"Block1, {what}", seen, seen.code == "2.04")
        seen = call("-b", "1024", f"{base}/large-update")
        check(group, f"Block1, {what}: all of it is there", seen, seen.payload == PAYLOAD_4K)
    # The first acknowledgement of the separate answer is lost: we send it again.
    seen = call("-l", "2", f"{base}/separate")
    check(group, "a separate answer, its acknowledgement lost", seen, seen.code == "2.05" and seen.payload)


def lossy_posts(group, base):
    """Whatever is lost, a POST is carried out once: the paths that it creates are counted."""
    paths = []
    for number in range(3):
        seen = call("-l", "20%" if number else "1", "-m", "post", "-e", "x", f"{base}/large-create")
        paths += re.findall(r"Location-Path:(\d+)", seen.options)
    check(group, "each POST carried out once, a fifth lost", seen, paths == ["1", "2", "3"])


def wrong_keys(group, base):
    """Who has no key, or another one, fails alone."""
    scheme, rest = base.split("://")
    client = libcoap("coap-client", scheme.removeprefix("coaps+"))
    for what, identity, key in (("a wrong key", IDENTITY, "another sixteen!"), ("an unknown identity", "nobody", KEY)):
        command = [client, "-v", "4", "-B", "5", "-u", identity, "-k", key, f"coaps://{rest}/test"]
        started = time.monotonic()
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        is_quick = time.monotonic() - started < 3
        ok = is_quick and "the resource" not in done.stdout and "handshake fail" in done.stdout.lower()
        group.check(f"{what} is refused at once", ok, " ".join(command), done.stdout)
        seen = call(f"{base}/test")
        check(group, f"after {what}, others are served", seen, seen.code == "2.05" and seen.payload)
