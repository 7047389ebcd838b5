"""What Rollcall says of a broker: the relay's own words, and sessions, events and services of `/v1`."""

import base64
import json
import os
import subprocess
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

from harness import Program, free_port

# A service is its relay's for good: on a system that ran this before, the name is another relay's.
NAME = f"broker-{os.getpid()}"


class Relay:
    """A relay that watches a RabbitMQ, while the block lasts."""

    def __init__(self, binary, folder, url, more="", cloud=None, user="watcher"):
        self.binary, self.folder = binary, Path(folder)
        self.folder.mkdir(parents=True)
        (self.folder / "password").write_text("secret\n")
        self.config = self.folder / "relay.toml"
        to = f'[cloud]\nurl = "{cloud[0]}"\nkey = "{cloud[1]}"\n' if cloud else ""
        self.config.write_text(
            f'data_dir = "{self.folder}/spool"\n{to}[monitor]\nlisten = "127.0.0.1:{free_port()}"\n[watch]\nmoving_seconds = 1\n'
            f'[[rabbitmq]]\nname = "{NAME}"\nurl = "{url}"\nuser = "{user}"\npassword_file = "{self.folder}/password"\n'
            f'poll_seconds = 1\ntimeout_seconds = 5\n{more}')

    def __enter__(self):
        environment = os.environ | {"ROLLCALL_LOG": "info"}
        self.program = Program([self.binary, "run", "--config", str(self.config)], env=environment)
        self.program.__enter__()
        return self

    def __exit__(self, *ended):
        self.program.__exit__(*ended)

    def check(self):
        """What `check` prints, and whether all is well."""
        done = subprocess.run([self.binary, "check", "--config", str(self.config)], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=120)
        return done.stdout, done.returncode == 0

    def source(self):
        """How the source is, by the relay's status."""
        done = subprocess.run([self.binary, "status", "--json", "--config", str(self.config)], text=True,
                              stdout=subprocess.PIPE, timeout=60)
        sources = json.loads(done.stdout).get("sources") or [{}]
        return sources[0]


class Cloud:
    """The api of a system that runs."""

    def __init__(self, ready):
        self.url, self.project = ready["http"], ready["project_id"]
        key = f"{ready['api_key']['id']}:{ready['api_key']['secret']}"
        self.authorization = "Basic " + base64.b64encode(key.encode()).decode()

    def get(self, path, **query):
        url = f"{self.url}{path}?{urlencode(query)}" if query else f"{self.url}{path}"
        request = urllib.request.Request(url, headers={"Authorization": self.authorization})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def all(self, path, **query):
        """Every resource of a listing, page by page."""
        document = self.get(path, **query)
        found = document["data"]
        while following := document["links"].get("next"):
            document = self.get(following.removeprefix(self.url))
            found += document["data"]
        return found

    def sessions(self, kind, service=NAME):
        """Attributes by client id, with the resource's own id."""
        found = self.all("/v1/sessions", **{"filter[kind]": kind, "filter[service]": service, "page[size]": 1000})
        return {row["attributes"].get("client_id"): row["attributes"] | {"id": row["id"]} for row in found}

    def happened(self, session_id):
        """What happened to a session, in order."""
        found = self.all(f"/v1/sessions/{session_id}/events", **{"page[size]": 1000})
        return [row["attributes"]["event_type"] for row in found]

    def service(self, name=NAME):
        return self.get(f"/v1/services/{name}")["data"]["attributes"]
