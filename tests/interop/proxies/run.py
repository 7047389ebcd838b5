#!/usr/bin/env python3
"""A real PgBouncer, watched by a relay: psql sessions come, work, wait, leave and are killed, pools are paused, PgBouncer is
restarted and hangs for a while; what /v1 serves is compared with what happened, and with what PgBouncer's console says.

Part of `make interop`; runs from the repository's top. Takes the file that `rollcall up --ready-file` writes."""

import base64
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "coap"))

from built import build  # noqa: E402 after the path
from harness import Group, Program, Report  # noqa: E402
from servers import PASSWORDS, PATIENCE, WATCHER, Account, PgBouncer, Postgres, Psql, until  # noqa: E402

SHOP, OTHER = "pool/shop/app", "pool/other/bob"


class Cloud:
    """What the api serves to its reader."""

    def __init__(self, ready):
        key = f"{ready['api_key']['id']}:{ready['api_key']['secret']}"
        self.base, self.authorization = ready["http"], "Basic " + base64.b64encode(key.encode()).decode()

    def get(self, path, **query):
        url = f"{self.base}{path}?{urllib.parse.urlencode(query)}" if query else self.base + path
        request = urllib.request.Request(url, headers={"Authorization": self.authorization})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return {"status": error.code, "data": []}

    def sessions(self, service, label=None):
        page = self.get("/v1/sessions", **{"filter[kind]": "proxy", "filter[service]": service})
        sessions = [row["attributes"] for row in page["data"]]
        return [held for held in sessions if label in (None, held.get("label"))]

    def service(self, name):
        found = self.get(f"/v1/services/{urllib.parse.quote(name, safe='')}")["data"]
        return found["attributes"] if found else {}

    def told(self, service, label):
        """The events of a client's sessions, in their order, those apart that only tell what moved."""
        events, after = [], None
        while True:
            query = {"filter[service]": service} | ({"page[after]": after} if after else {})
            page = self.get("/v1/events", **query)
            for event in page["data"]:
                attributes = event["attributes"]
                session = (attributes.get("session") or {}).get("attributes") or {}
                if session.get("label") == label and attributes["event_type"] != "updated":
                    events.append(attributes["event_type"])
            link = (page.get("links") or {}).get("next")
            following = urllib.parse.parse_qs(urllib.parse.urlsplit(link).query).get("page[after]", [None])[0] if link else None
            if not page["data"] or following in (None, after):
                return events
            after = following


class Watch:
    """The checks: each waits until the api serves what happened."""

    def __init__(self, group, cloud, bouncer, postgres):
        self.group, self.cloud, self.bouncer, self.postgres = group, cloud, bouncer, postgres

    def serves(self, what, service, label, **members):
        """One session of the label, with these members."""
        def is_right(seen):
            return len(seen) == 1 and all(seen[0].get(name) == value for name, value in members.items())
        return self.eventually(what, lambda: self.cloud.sessions(service, label), is_right, members)

    def eventually(self, what, look, is_right, wanted):
        try:
            seen = until(what, look, is_right)
        except RuntimeError as error:
            self.group.check(what, False, wanted, str(error))
            return None
        self.group.check(what, True, wanted, seen)
        return seen

    def connects(self, client, service):
        """What the api tells of a client that has just connected, against what the console does."""
        name = client.label
        row = until(f"PgBouncer lists {name}", lambda: self.bouncer.row(name))
        connected = time.time()
        known = {"user": client.user, "remote": "127.0.0.1", "port": int(row["port"]), "database": client.database,
                 "protocol": "postgres", "kind": "proxy", "active": True, "state": row["state"], "backends": []}
        seen = self.serves(f"{name} is connected, as the console says", service, name, **known)
        if not seen:
            return None
        at = datetime.datetime.fromisoformat(seen[0]["connected_at"].replace("Z", "+00:00")).timestamp()
        self.group.check(f"{name} connected when it did, though the console prints local time", abs(connected - at) < 10,
                         f"at {connected}", seen[0]["connected_at"])
        printed = row.get("id") or f"127.0.0.1:{row['port']}@{row['connect_time'][:19].replace(' ', 'T')}"
        self.group.check(f"{name} has the id that its version has", seen[0]["source_id"] == printed, printed,
                         seen[0]["source_id"])
        self.group.check(f"{name} is idle, for as long as it has been", 0 <= seen[0].get("idle", -1) < 30, "0 to 30 s",
                         seen[0].get("idle"))
        return seen[0]


def clients_come_and_go(watch):
    bouncer = watch.bouncer
    alice = Psql(bouncer, "alice", "shop", "till 7")
    alice.ask("select 1")
    watch.connects(alice, SHOP)
    bob = Psql(bouncer, "bob", "other", "report")
    bob.ask("select 1")
    watch.connects(bob, OTHER)

    alice.tell("begin")
    pid = alice.ask("select pg_backend_pid()")
    backends = [{"server": f"127.0.0.1:{watch.postgres.port}", "id": pid, "state": "active"}]
    watch.serves("a transaction has the server connection that Postgres says", SHOP, alice.label, backends=backends)
    carol = Psql(bouncer, "carol", "shop", "waits")
    carol.tell("select 2")
    watch.serves("who has to wait is waiting", SHOP, carol.label, state="waiting", backends=[], active=True)
    alice.tell("commit")
    carol.answer()
    row = until("PgBouncer lists carol", lambda: bouncer.row(carol.label))
    watch.serves("after the transaction nothing works for it", SHOP, alice.label, backends=[], active=True)
    watch.serves("who waited is served", SHOP, carol.label, state=row["state"], active=True)

    bob.leave()
    watch.serves("who left is gone", OTHER, bob.label, active=False)
    alice.kill()
    watch.serves("who was killed is gone", SHOP, alice.label, active=False)
    watch.serves("who stays is there", SHOP, carol.label, active=True)
    again = Psql(bouncer, "bob", "other", "report")
    again.ask("select 1")
    watch.eventually("who comes back is another session, and the first stays gone",
                     lambda: sorted(held["active"] for held in watch.cloud.sessions(OTHER, "report")),
                     lambda seen: seen == [False, True], [False, True])
    again.leave()
    watch.eventually("their history is there", lambda: watch.cloud.told(OTHER, "report"),
                     lambda seen: seen == ["connected", "disconnected"] * 2, ["connected", "disconnected"] * 2)
    return carol


def pools_are_paused(watch):
    version = watch.bouncer.admin("SHOW VERSION")[0]["version"].split()[-1]
    watch.eventually("a pool tells the version and what it can know", lambda: watch.cloud.service(SHOP).get("source"),
                     lambda seen: seen and seen.get("version") == version and "backends" in seen["knows"], version)
    watch.bouncer.admin("PAUSE shop")
    watch.eventually("a paused pool says so", lambda: watch.cloud.service(SHOP).get("state"),
                     lambda seen: seen == "paused", "paused")
    watch.bouncer.admin("RESUME shop")
    watch.eventually("a resumed one no more", lambda: watch.cloud.service(SHOP).get("state"),
                     lambda seen: seen != "paused", "not paused")


def it_hangs_for_a_while(watch, carol):
    def unreachable():
        return watch.cloud.service(SHOP).get("unreachable_since")
    watch.bouncer.process.send_signal(signal.SIGSTOP)
    try:
        watch.eventually("a PgBouncer that hangs is unreachable", unreachable, bool, "unreachable_since")
        watch.serves("its clients are as they were", SHOP, carol.label, active=True)
    finally:
        watch.bouncer.process.send_signal(signal.SIGCONT)
    watch.eventually("once it answers it is reachable", unreachable, lambda seen: not seen, None)
    watch.serves("and its clients still are", SHOP, carol.label, active=True)
    told = watch.cloud.told(SHOP, carol.label)
    watch.group.check("nobody left because the relay was cut off", told == ["connected"], ["connected"], told)


def it_is_restarted(watch, carol):
    watch.bouncer.stop()
    watch.bouncer.start()
    dave = Psql(watch.bouncer, "alice", "shop", "afterwards")
    dave.ask("select 1")
    watch.serves("after a restart who was there is gone", SHOP, carol.label, active=False)
    watch.connects(dave, SHOP)
    carol.kill()
    dave.leave()
    watch.serves("and who came since leaves as well", SHOP, dave.label, active=False)
    told = watch.cloud.told(SHOP, carol.label)
    watch.group.check("each left once", told == ["connected", "disconnected"], ["connected", "disconnected"], told)


def checks(group, ready, key, relay, folder):
    account = Account()
    postgres = Postgres(account)
    bouncer = PgBouncer(account, postgres)
    try:
        postgres.start()
        bouncer.start()
        password = Path(folder, "password")
        password.write_text(PASSWORDS[WATCHER] + "\n")
        config = Path(folder, "relay.toml")
        config.write_text(f"""
data_dir = "{folder}/spool"
[cloud]
url = "{ready['http']}"
[monitor]
listen = "127.0.0.1:0"
[watch]
moving_seconds = 1
[[pgbouncer]]
name = "pool"
host = "127.0.0.1"
port = {bouncer.port}
user = "{WATCHER}"
password_file = "{password}"
poll_seconds = 1
timeout_seconds = 2
""")
        environment = os.environ | {"ROLLCALL_LOG": "info", "ROLLCALL_RELAY_KEY": key}
        looked = subprocess.run([relay, "check", "--config", str(config)], env=environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        group.check("rollcall-relay check sees it", looked.returncode == 0 and "pgbouncer" in looked.stdout,
                    "rollcall-relay check", looked.stdout)
        with Program([relay, "run", "--config", str(config)], says="a picture of a source was taken", env=environment):
            watch = Watch(group, Cloud(ready), bouncer, postgres)
            carol = clients_come_and_go(watch)
            pools_are_paused(watch)
            it_hangs_for_a_while(watch, carol)
            it_is_restarted(watch, carol)
    finally:
        bouncer.close()
        postgres.close()


def relays_key(api, ready):
    """The key of a relay that is made for this run."""
    name = f"proxies-{os.getpid()}"
    made = subprocess.run([api, "admin", "--json", "relay", "create", "--organization", ready["organization"],
                           "--project", str(ready["project_id"]), "--name", name], text=True, stdout=subprocess.PIPE,
                          env=os.environ | {"ROLLCALL_DATABASE_URL": ready["postgres"]})
    if made.returncode != 0:
        sys.exit("proxies: no relay could be made")
    key = json.loads(made.stdout)
    return f"{key['id']}:{key['secret']}"


def main():
    ready = json.loads(Path(sys.argv[1]).read_text())
    relay = build("rollcall-relay", "--bins")["rollcall-relay"]
    key = relays_key(build("rollcall-api", "--bins")["rollcall-api"], ready)
    report = Report("proxies")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        Group(report, "psql", "PgBouncer").run(lambda group: checks(group, ready, key, relay, folder))
    counts = report.counts
    print(f"proxies: {counts['ok']} ok, {counts['FAILED']} failed; {time.monotonic() - started:.0f} s", flush=True)
    sys.exit(1 if counts["FAILED"] else 0)


if __name__ == "__main__":
    main()
