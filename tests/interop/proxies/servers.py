"""A Postgres and a PgBouncer of our own on the loopback, and psql as the client of the one through the other."""

import csv
import glob
import io
import os
import pwd
import re
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

# Who may look at the console, who may change something there, and a client; with their passwords.
WATCHER, ADMIN = "watcher", "admin"
PASSWORDS = {WATCHER: "watch it", ADMIN: "rule it", "alice": "a", "bob": "b", "carol": "c"}
# PgBouncer's local time is three hours and a half behind UTC here.
ZONE = "America/St_Johns"
PATIENCE = 20


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def program(name):
    """A program of Postgres or PgBouncer, where Debian and others have it."""
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
    folders = ["/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin"]
    others = [path for folder in folders for path in glob.glob(f"{folder}/{name}")]
    if not found and not others:
        raise RuntimeError(f"there is no {name}: run scripts/setup-interop.sh")
    newest = sorted(others, key=lambda path: [int(number) for number in re.findall(r"\d+", path)])
    return newest[-1] if newest else found


def until(what, look, is_right=bool, patience=PATIENCE):
    """Looks until it is right; answers what it saw last, and whether that is right."""
    end = time.monotonic() + patience
    while True:
        seen = look()
        if is_right(seen):
            return seen
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: still not after {patience} s; seen: {seen}")
        time.sleep(0.1)


class Account:
    """Who the servers run as: neither will as root."""

    def __init__(self):
        self.options = {}
        if os.geteuid() == 0:
            names = [held.pw_name for held in pwd.getpwall()]
            held = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            self.options = {"user": held.pw_uid, "group": held.pw_gid, "extra_groups": []}

    def folder(self):
        path = Path(tempfile.mkdtemp(prefix="rollcall-proxies-"))
        os.chmod(path, 0o755)
        self.give(path)
        return path

    def give(self, path):
        if self.options:
            os.chown(path, self.options["user"], self.options["group"])


class Server:
    """A process that listens on a port, in a folder of its own."""

    def __init__(self, account):
        self.account = account
        self.folder = account.folder()
        self.port = free_port()
        self.process = None

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        self.account.give(path)
        return str(path)

    def launch(self, *command, **environment):
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                                            env=os.environ | {"HOME": str(self.folder)} | environment, **self.account.options)
        until(f"{command[0]} listens", self.listens)

    def listens(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"it ended: {(self.folder / 'log').read_text()[-2000:]}")
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def stop(self, how=signal.SIGINT):
        if self.process:
            self.process.send_signal(how)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def close(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres(Server):
    def start(self):
        data = str(self.folder / "data")
        subprocess.run([program("initdb"), "-D", data, "-U", "app", "-A", "trust", "--no-locale", "-E", "UTF8", "--no-sync"],
                       check=True, stdout=subprocess.DEVNULL, cwd=self.folder, env=os.environ | {"HOME": str(self.folder)},
                       **self.account.options)
        self.launch(program("postgres"), "-D", data, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1",
                    "-c", f"unix_socket_directories={self.folder}", "-c", "fsync=off")

        def makes():
            done = subprocess.run([program("psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "app", "-d", "postgres",
                                   "-c", "create role bob login"], capture_output=True, text=True)
            return done.returncode == 0
        until("Postgres takes statements", makes)


class PgBouncer(Server):
    """Two databases: `shop` has one server connection for everybody, `other` asks the server as the client's user."""

    def __init__(self, account, postgres):
        super().__init__(account)
        users = "".join(f'"{name}" "{password}"\n' for name, password in PASSWORDS.items())
        server = f"host=127.0.0.1 port={postgres.port} dbname=postgres"
        self.config = self.write("pgbouncer.ini", f"""
[databases]
shop = {server} user=app pool_size=1
other = {server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = md5
auth_file = {self.write("users.txt", users)}
stats_users = {WATCHER}
admin_users = {ADMIN}
pool_mode = transaction
""")

    def start(self):
        self.launch(program("pgbouncer"), "-q", self.config, TZ=ZONE)

    def admin(self, command):
        done = subprocess.run([program("psql"), "-X", "-q", "--csv", "-h", "127.0.0.1", "-p", str(self.port), "-U", ADMIN,
                               "-d", "pgbouncer", "-c", command], capture_output=True, text=True,
                              env=os.environ | {"PGPASSWORD": PASSWORDS[ADMIN]})
        if done.returncode != 0:
            raise RuntimeError(f"{command}: {done.stderr}")
        return list(csv.DictReader(io.StringIO(done.stdout)))

    def row(self, label):
        """What the console itself says of the client with the label."""
        rows = [row for row in self.admin("SHOW CLIENTS") if row["application_name"] == label]
        return rows[0] if len(rows) == 1 else None


class Psql:
    """A client that stays connected, and does what it is told."""

    def __init__(self, bouncer, user, database, label):
        self.user, self.database, self.label = user, database, label
        self.process = subprocess.Popen(
            [program("psql"), "-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-p", str(bouncer.port), "-U", user, "-d", database],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=os.environ | {"PGPASSWORD": PASSWORDS[user], "PGAPPNAME": label, "PGCLIENTENCODING": "UTF8"})

    def tell(self, statement):
        """Has a statement begun."""
        self.process.stdin.write(f"{statement};\n".encode())
        self.process.stdin.flush()

    def ask(self, statement):
        """Has a statement done; its one line of answer."""
        self.tell(statement)
        return self.answer(statement)

    def answer(self, statement="what it was told"):
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            if not ready.select(PATIENCE):
                raise RuntimeError(f"psql does not answer: {statement}")
        line = self.process.stdout.readline().decode().strip()
        if not line or "ERROR" in line or "FATAL" in line:
            raise RuntimeError(f"psql: {statement}: {line}")
        return line

    def leave(self):
        self.process.stdin.close()
        self.process.wait(10)

    def kill(self):
        self.process.kill()
        self.process.wait(10)
