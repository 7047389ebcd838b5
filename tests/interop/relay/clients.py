"""libcoap's client, aiocoap and node-coap behind one shape: `call` and `observe`."""

import asyncio
import itertools
import json
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import libcoap as libcoap_checks
from aiocoap import Code, Context, Message
from aio import dotted
from harness import libcoap
from node import ENVIRONMENT

HERE = Path(__file__).parent
METHODS = {"GET": Code.GET, "POST": Code.POST, "PUT": Code.PUT, "DELETE": Code.DELETE}


class Answer:
    def __init__(self, sent, code, etag, payload):
        self.sent, self.code, self.etag, self.payload = sent, code, etag, payload

    def json(self):
        return json.loads(self.payload)

    def __repr__(self):
        return f"{self.code} etag={self.etag} {self.payload!r}"


class Observation:
    """The bodies that a client handed over, in order."""

    def __init__(self, path):
        self.path, self.lock, self.held = path, threading.Lock(), []
        self.error = None

    def add(self, text):
        with self.lock:
            self.held.append(json.loads(text))

    def bodies(self):
        with self.lock:
            return list(self.held)

    def wait(self, is_enough, seconds=5):
        """Waits until the bodies are enough; answers them, whatever they are by then."""
        end = time.monotonic() + seconds
        while not is_enough(self.bodies()) and time.monotonic() < end:
            time.sleep(0.02)
        return self.bodies()


class Libcoap:
    name = "libcoap"

    def __init__(self, base):
        self.base, self.observations = base, []

    def call(self, method, path, body=None, etag=None):
        arguments = ["-m", method.lower()]
        if body is not None:
            arguments += ["-t", "50", "-e", json.dumps(body, separators=(",", ":"))]
        if etag:
            arguments += ["-O", f"4,0x{etag}"]
        seen = libcoap_checks.call(*arguments, self.base + path, timeout=20)
        tags = re.findall(r"ETag:0x(\w+)", " ".join(message[3] for message in seen.received))
        return Answer(seen.command, seen.code, tags[-1] if tags else None, seen.payload)

    def observe(self, path, seconds):
        self.observations.append(LibcoapObservation(self.base, path, seconds))
        return self.observations[-1]

    def close(self):
        for observation in self.observations:
            observation.process.terminate()
            observation.process.wait(5)
            observation.folder.cleanup()


class LibcoapObservation(Observation):
    """The program cancels by itself after so many seconds; its bodies are in a file, one after the other."""

    def __init__(self, base, path, seconds):
        super().__init__(path)
        self.folder = tempfile.TemporaryDirectory()
        self.file = Path(self.folder.name, "bodies")
        self.file.touch()
        self.process = subprocess.Popen([libcoap("coap-client"), "-v", "3", "-s", str(seconds), "-o", str(self.file), base + path],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def bodies(self):
        text, bodies = self.file.read_text().lstrip(), []
        while text:
            try:
                body, end = json.JSONDecoder().raw_decode(text)
            except json.JSONDecodeError:
                break  # The rest is not written yet.
            bodies.append(body)
            text = text[end:].lstrip()
        return bodies

    def cancel(self):
        self.process.wait(60)


class Aiocoap:
    name = "aiocoap"

    def __init__(self, base):
        self.base = base
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.context = self.run(Context.create_client_context())

    def run(self, work, seconds=30):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def call(self, method, path, body=None, etag=None):
        request = Message(code=METHODS[method], uri=self.base + path)
        if body is not None:
            request.payload, request.opt.content_format = json.dumps(body).encode(), 50
        if etag:
            request.opt.etags = [bytes.fromhex(etag)]
        answer = self.run(self.ask(request))
        tag = answer.opt.etag.hex() if answer.opt.etag else None
        return Answer(f"{method} {path} {body} {etag}", dotted(answer.code), tag, answer.payload)

    async def ask(self, request):
        return await self.context.request(request).response

    def observe(self, path, seconds):
        observation = Observation(path)
        pending = self.run(self.begin(observation))
        observation.cancel = lambda: self.run(self.end(pending))
        return observation

    async def begin(self, observation):
        pending = self.context.request(Message(code=Code.GET, uri=self.base + observation.path, observe=0))
        # Listens before the first answer is there, so that nothing between is lost.
        pending.observation.register_callback(lambda message: observation.add(message.payload))

        def fail(error):
            observation.error = repr(error)
        pending.observation.register_errback(fail)
        observation.add((await pending.response).payload)
        return pending

    async def end(self, pending):
        pending.observation.cancel()
        await asyncio.sleep(0.1)

    def close(self):
        self.run(self.context.shutdown())
        self.loop.call_soon_threadsafe(self.loop.stop)


class Node:
    """Talks with node_agent.js, in lines of JSON."""

    name = "node-coap"

    def __init__(self, base):
        self.process = subprocess.Popen(["node", str(HERE / "node_agent.js"), base], text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
        self.ids, self.lock, self.answers, self.observations = itertools.count(), threading.Lock(), {}, {}
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            said = json.loads(line)
            if said["id"] in self.observations:
                self.observations[said["id"]].add(said["body"])
            else:
                self.answers[said["id"]] = said

    def say(self, number, **what):
        with self.lock:
            self.process.stdin.write(json.dumps({"id": number, **what}) + "\n")
            self.process.stdin.flush()

    def call(self, method, path, body=None, etag=None):
        number = next(self.ids)
        self.say(number, do="call", method=method, path=path, etag=etag,
                 payload=None if body is None else json.dumps(body, separators=(",", ":")))
        end = time.monotonic() + 20
        while number not in self.answers:
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError(f"no answer to {method} {path}")
            time.sleep(0.005)
        said = self.answers.pop(number)
        return Answer(f"{method} {path} {body} {etag}", said["code"], said["etag"], said["body"].encode())

    def observe(self, path, seconds):
        number, observation = next(self.ids), Observation(path)
        self.observations[number] = observation
        self.say(number, do="observe", path=path)

        def cancel():
            self.say(number, do="cancel")
            time.sleep(0.2)
        observation.cancel = cancel
        return observation

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)
