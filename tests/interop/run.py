#!/usr/bin/env python3
"""`make interop`: CoAP with other implementations (coap/), a relay's transmitter with others (relay/), a relay beside a PgBouncer
(proxies/) and beside a RabbitMQ (brokers/), and the OpenAPI document as others use it. Lints the document, looks for changes that
break clients, compiles generated clients, runs one script with each of two against a running system, follows a guest through it, and
has schemathesis call every operation.

`run.py clients` generates the clients alone; `run.py coap`, `relay`, `proxies` and `brokers` do those parts alone. Runs from the repository's
top; `scripts/setup-interop.sh` installs the tools."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from pathlib import Path

TOOLS = Path(".tools/interop")
CLIENTS = Path("clients")
DOCUMENT = Path("openapi/rollcall.json")
RELEASED = Path("openapi/released.json")
PHOTO = "services/dev/examples/photo.jpg"
LANGUAGES = {
    "typescript": ("typescript-fetch", "npmName=rollcall-client"),
    "python": ("python", "packageName=rollcall_client"),
    "rust": ("rust", "packageName=rollcall-client"),
    "java": ("java", "library=native,artifactId=rollcall-client,groupId=rollcall,invokerPackage=rollcall.client,"
             "apiPackage=rollcall.client.api,modelPackage=rollcall.client.model"),
    "go": ("go", "packageName=rollcall"),
}
# No tool is to call home.
ENVIRONMENT = os.environ | {"REDOCLY_TELEMETRY": "off", "OPTIC_TELEMETRY_LEVEL": "off", "DO_NOT_TRACK": "1",
                            "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}


def step(text):
    print(f"interop: {text}", flush=True)


def node(name):
    return str(TOOLS / "node_modules/.bin" / name)


def python(name):
    return str(TOOLS / "venv/bin" / name)


def run(*command, quiet=False, **options):
    """Runs a command; shows what it printed where it fails, or always."""
    output = subprocess.PIPE if quiet else None
    done = subprocess.run(command, env=ENVIRONMENT, text=True, stdout=output, stderr=subprocess.STDOUT, **options)
    if done.returncode != 0:
        sys.exit(f"{done.stdout or ''}\ninterop: failed: {' '.join(command)}")
    return done.stdout


def breaks(old, new):
    """What of a document's changes breaks clients, as the tool says it; nothing where nothing does."""
    done = subprocess.run([node("optic"), "diff", str(old), str(new), "--check"], env=ENVIRONMENT, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode == 0:
        return ""
    if "breaking change" not in done.stdout:
        sys.exit(f"{done.stdout}\ninterop: the documents could not be compared")
    return done.stdout


def version(document):
    major, minor, _ = json.loads(document.read_text())["info"]["version"].split(".")
    # Below 1.0 a new minor version may break clients.
    return (major, minor) if major == "0" else (major,)


def check_breaking_changes():
    step("changes since the last release")
    with tempfile.TemporaryDirectory() as folder:
        # Were the tool to find nothing ever, it would find nothing now.
        broken = json.loads(RELEASED.read_text())
        del broken["paths"]["/v1/sessions"]
        other = Path(folder, "broken.json")
        other.write_text(json.dumps(broken))
        if not breaks(RELEASED, other):
            sys.exit("interop: a removed path is not found to break clients; the check checks nothing")
    found = breaks(RELEASED, DOCUMENT)
    if found and version(DOCUMENT) == version(RELEASED):
        sys.exit(f"{found}\ninterop: {DOCUMENT} breaks clients of {RELEASED}: take the change back, or give the "
                 "workspace a version that may break them (and, when it is released, copy the document there)")
    if found:
        step("they break clients, and the version says so")


def generate_clients(languages):
    for language in languages:
        step(f"{language} client")
        generator, properties = LANGUAGES[language]
        folder = CLIENTS / language
        shutil.rmtree(folder, ignore_errors=True)
        run(python("openapi-generator-cli"), "generate", "--input-spec", str(DOCUMENT), "--generator-name", generator,
            "--output", str(folder), "--additional-properties", properties,
            # Models of forms are left out otherwise, but not their imports.
            "--global-property", "skipFormModel=false", quiet=True)


def compile_clients():
    step("compile the TypeScript client and its script")
    run(node("tsc"), "--project", "tests/interop/typescript/tsconfig.json")
    step("install the Python client")
    run(python("pip"), "install", "--quiet", "--disable-pip-version-check", "--force-reinstall", "--no-deps",
        str(CLIENTS / "python"))
    run(python("pip"), "install", "--quiet", "--disable-pip-version-check", str(CLIENTS / "python"))


class System:
    """A whole system on this machine, while the block lasts."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        # Postgres runs as another user where this is root.
        os.chmod(self.folder.name, 0o755)
        self.ready_file = Path(self.folder.name, "ready.json")
        step("start a system")
        self.process = subprocess.Popen(
            ["cargo", "run", "--quiet", "--locked", "--package", "rollcall-dev", "--", "up", "--http", "127.0.0.1:0",
             "--coap", "127.0.0.1:0", "--data-dir", str(Path(self.folder.name, "data")), "--ready-file", str(self.ready_file)],
            stdout=subprocess.DEVNULL, env=os.environ | {"ROLLCALL_LOG": "warn"})
        for _ in range(600):
            if self.ready_file.exists():
                self.ready = json.loads(self.ready_file.read_text())
                return self
            if self.process.poll() is not None:
                sys.exit("interop: the system did not start")
            time.sleep(0.1)
        self.__exit__()
        sys.exit("interop: the system was not ready within a minute")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.folder.cleanup()


def talk_coap():
    step("CoAP with libcoap, aiocoap and node-coap")
    run(python("python"), "tests/interop/coap/run.py")


def talk_to_a_transmitter():
    step("a relay's transmitter with the vendor's scripts, libcoap, aiocoap and node-coap")
    run(python("python"), "tests/interop/relay/run.py")


def watch_proxies():
    with System() as system:
        step("a relay beside a PgBouncer, with psql sessions")
        run(python("python"), "tests/interop/proxies/run.py", str(system.ready_file))


def watch_a_broker():
    with System() as system:
        step("a relay beside a RabbitMQ, with paho's and pika's clients")
        run(python("python"), "tests/interop/brokers/run.py", str(system.ready_file))


def tell_of_a_broker(ready):
    """Plays a relay that sees a broker with two clients: until then broker tools are answered 503."""
    step("a relay tells of a broker")
    admin = ["cargo", "run", "--quiet", "--locked", "--package", "rollcall-api", "--", "admin", "--json", "relay", "create",
             "--organization", "demo", "--project", str(ready["project_id"]), "--name", "interop-broker"]
    made = subprocess.run(admin, env=os.environ | {"ROLLCALL_DATABASE_URL": ready["postgres"]}, text=True, check=True,
                          stdout=subprocess.PIPE)
    key = json.loads(made.stdout)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    def connected(sequence, client_id, kind):
        subscription = {"filter": "devices/+/events", "qos": 1}
        connection = {"source_id": client_id, "client_id": client_id, "kind": kind, "presence": "connected",
                      "connected_at": now, "subscriptions": [subscription]}
        return {"id": str(uuid.uuid4()), "service": "rabbit", "sequence": sequence, "at": now, "type": "connected",
                "connection": connection}

    batch = {
        "relay": {"version": "interop", "spool": {"events": 0, "bytes": 0}},
        "services": [{"name": "rabbit", "kind": "broker", "at": now, "watch": {"source": "rabbitmq", "seen": now}}],
        "events": [connected(1, "my-device-001", "mqtt"), connected(2, "amqp091:127.0.0.1:48702", "amqp")],
    }
    authorization = "Basic " + base64.b64encode(f"{key['id']}:{key['secret']}".encode()).decode()
    headers = {"Authorization": authorization, "Content-Type": "application/json"}
    request = urllib.request.Request(f"{ready['http']}/v1/ingest", json.dumps(batch).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        verdicts = [verdict["status"] for verdict in json.load(answer)["verdicts"]]
    if verdicts != ["stored", "stored"]:
        sys.exit(f"interop: the broker's clients were not stored: {verdicts}")


def call_every_operation(ready):
    step("schemathesis over the whole document")
    key = f"{ready['api_key']['id']}:{ready['api_key']['secret']}"
    authorization = "Basic " + base64.b64encode(key.encode()).decode()
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance," \
             "response_schema_conformance,unsupported_method"
    run(python("st"), "--config-file", "tests/interop/schemathesis.toml", "run", str(DOCUMENT), "--url", ready["http"],
        "--header", f"Authorization: {authorization}", "--checks", checks, "--phases", "examples,coverage,fuzzing,stateful",
        "--max-examples", "15", "--max-time", "60", "--request-timeout", "30", "--seed", "1", "--continue-on-failure",
        "--warnings", "off", "--no-color", "--generation-database", "none")


def main():
    if sys.argv[1:] == ["clients"]:
        generate_clients(LANGUAGES)
        step(f"they are in {CLIENTS}")
        return
    parts = {"coap": talk_coap, "relay": talk_to_a_transmitter, "proxies": watch_proxies, "brokers": watch_a_broker}
    for name, part in parts.items():
        if sys.argv[1:] in ([], [name]):
            part()
    if sys.argv[1:]:
        return
    step("lint the document")
    output = run(node("redocly"), "lint", "--config", "tests/interop/redocly.yaml", "--max-problems", "100",
                 str(DOCUMENT), quiet=True)
    # A warning leaves the exit code 0.
    if "You have" in output:
        sys.exit(f"{output}\ninterop: the linter warns of {DOCUMENT}")
    check_breaking_changes()
    generate_clients(["typescript", "python"])
    compile_clients()
    with System() as system:
        ready = str(system.ready_file)
        run("node", str(TOOLS / "typescript/tests/interop/typescript/roundtrip.js"), ready, PHOTO)
        run(python("python"), "tests/interop/python/roundtrip.py", ready, PHOTO)
        run(python("python"), "tests/interop/relay/end_to_end.py", ready)
        tell_of_a_broker(system.ready)
        call_every_operation(system.ready)
    step("done")


if __name__ == "__main__":
    main()
