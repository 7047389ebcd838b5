"""What the checks share: their report, and programs that run while a block lasts."""

import contextlib
import importlib.util
import select
import shutil
import socket
import subprocess
import threading
import time

PAYLOAD_4K = "".join(f"put  {number:010}\n" for number in range(250)).encode()
PAYLOAD_20K = "".join(f"put  {number:010}\n" for number in range(1250)).encode()
# What both sides know, with DTLS. libcoap's programs take the key as text.
IDENTITY, KEY = "device-1", "sixteen bytes ok"
PSK = f"{IDENTITY}:{KEY.encode().hex()}"
PERIOD_MS = 400
DELAY_MS = 1500


def lines(first, length):
    """The bodies of /large and the like (`lines` in plugtest's site.rs)."""
    return "".join(f"line {number:010}\n" for number in range(first, first + length // 16)).encode()


def short(value, most=300):
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


class Report:
    """Prints a line for every check; remembers what failed."""

    def __init__(self, part="coap"):
        self.part = part
        self.lock = threading.Lock()
        self.faults = set()
        self.counts = {"ok": 0, "known": 0, "FAILED": 0}

    def add(self, who, what, ok, sent, seen, known=None):
        """`known` names a fault that is not ours to mend, and where it is described: the check may then fail."""
        outcome = "ok" if ok else "known" if known else "FAILED"
        with self.lock:
            self.counts[outcome] += 1
            print(f"{self.part}: {outcome:6} {who}: {what}", flush=True)
            if outcome == "known" and known not in self.faults:
                self.faults.add(known)
                print(f"{self.part}:        a known fault: {known}", flush=True)
            elif outcome == "FAILED":
                print(f"  sent: {short(sent)}\n  seen: {short(seen, 4000)}", flush=True)


class Group:
    """Checks of one pair of programs."""

    def __init__(self, report, client, server):
        self.report = report
        self.who = f"{client} -> {server}"

    def check(self, what, ok, sent, seen, known=None):
        self.report.add(self.who, what, bool(ok), sent, seen, known)

    def run(self, checks):
        """Runs the checks; what they raise is a failure."""
        try:
            checks(self)
        except Exception as error:  # noqa: BLE001 whatever it is, it is reported
            self.check("to the end", False, getattr(checks, "__name__", "checks"), f"{type(error).__name__}: {error}")


class Program:
    """A server, while the block lasts: it is up when it says so, or at once where it says nothing."""

    def __init__(self, command, says=None, env=None):
        self.command, self.says, self.env = command, says, env

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.env,
                                        text=True)
        self.said = ""
        if self.says:
            for line in self.process.stdout:
                self.said += line
                if self.says in line:
                    break
            else:
                raise RuntimeError(f"{self.command} did not start: {self.said}")
        else:
            time.sleep(0.3)
        # What it says later is nobody's, but the pipe must not fill.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def plugtest(binary, tls=None):
    """Our server; `tls` names the library of the client with DTLS that is to be served."""
    listen = ["--dtls", "127.0.0.1:0", "--psk", PSK] if tls else ["--listen", "127.0.0.1:0"]
    command = [binary, *listen, "--period-ms", str(PERIOD_MS), "--delay-ms", str(DELAY_MS)]
    return Program(command, says="listening on ")


def uri(program):
    return program.said.split()[-1]


def libcoap(name, tls="notls"):
    """The program of libcoap: Debian has them without TLS, with OpenSSL's and with GnuTLS'."""
    return shutil.which(f"{name}-{tls}") or name


def has_libcoap(tls):
    return shutil.which(f"coap-client-{tls}") and shutil.which(f"coap-server-{tls}")


def has_dtls_socket():
    """Whether aiocoap can do DTLS."""
    return importlib.util.find_spec("DTLSSocket") is not None


class Wiretap:
    """Between one client and a server, while the block lasts: keeps what the server sent."""

    def __init__(self, server):
        self.server, self.from_server, self.client = server, [], None

    def __enter__(self):
        self.near, self.far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        self.near.bind(("127.0.0.1", 0))
        self.far.connect(("127.0.0.1", self.server))
        self.port = self.near.getsockname()[1]
        self.is_over = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def run(self):
        while not self.is_over:
            for ready in select.select([self.near, self.far], [], [], 0.1)[0]:
                if ready is self.near:
                    datagram, self.client = self.near.recvfrom(4096)
                    self.far.send(datagram)
                else:
                    datagram = self.far.recv(4096)
                    self.from_server.append(datagram)
                    self.near.sendto(datagram, self.client)

    def __exit__(self, *_):
        self.is_over = True
        self.thread.join()
        self.near.close()
        self.far.close()


def answers_ping(port):
    """Whether a CoAP server is there: a ping gets a Reset (RFC 7252, section 4.3)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        client.settimeout(0.2)
        for _ in range(25):
            try:
                client.send(b"\x40\x00\x12\x34")
                return client.recv(16) == b"\x70\x00\x12\x34"
            except OSError:
                time.sleep(0.1)
    return False


@contextlib.contextmanager
def libcoap_server(*arguments):
    """libcoap's server, while the block lasts; answers its port. It says nothing where its port was taken meanwhile."""
    for _ in range(4):
        port = free_port()
        with Program([libcoap("coap-server"), "-A", "127.0.0.1", "-p", str(port), *arguments]) as program:
            if program.process.poll() is None and answers_ping(port):
                yield port
                return
    raise RuntimeError("libcoap's server did not start")


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
