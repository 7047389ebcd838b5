"""aiocoap's server for our client: the part of ETSI's resources that the checks ask for. It listens on a port; with `dtls` after
that, on the next one, with DTLS."""

import asyncio
import sys

from aiocoap import CHANGED, CONTENT, CREATED, DELETED, Context, Message, error, resource
from aiocoap.credentials import CredentialsMap

from harness import DELAY_MS, IDENTITY, KEY, PERIOD_MS, lines


def text(payload):
    return Message(code=CONTENT, payload=payload, content_format=0)


class Held(resource.Resource):
    """What PUT put."""

    def __init__(self, first):
        super().__init__()
        self.first = self.payload = first

    async def render_get(self, request):
        return text(self.payload)

    async def render_put(self, request):
        self.payload = request.payload
        return Message(code=CHANGED)

    async def render_post(self, request):
        self.payload = request.payload
        return Message(code=CREATED, location_path=["location1", "location2"])

    async def render_delete(self, request):
        self.payload = self.first
        return Message(code=DELETED)


class LargePost(resource.Resource):
    async def render_post(self, request):
        return Message(code=CHANGED, payload=request.payload, content_format=0)


class Separate(resource.Resource):
    async def render_get(self, request):
        await asyncio.sleep(DELAY_MS / 1000)
        return text(b"a separate answer")


class Observable(resource.ObservableResource):
    """Counts up; in many lines where it is large."""

    def __init__(self, is_large):
        super().__init__()
        self.is_large, self.ticks = is_large, 0

    def tick(self):
        self.ticks += 1
        self.updated_state()
        asyncio.get_running_loop().call_later(PERIOD_MS / 1000, self.tick)

    async def render_get(self, request):
        return text(lines(self.ticks, 2048) if self.is_large else str(self.ticks).encode())


class NotAcceptable(resource.Resource):
    async def render_get(self, request):
        raise error.NotAcceptable()


async def main():
    site = resource.Site()
    observed = [Observable(False), Observable(True)]
    for path, held in (("test", Held(b"the resource /test")), ("large", Held(lines(0, 2048))), ("large-update", Held(b"")),
                       ("large-post", LargePost()), ("separate", Separate()), ("obs", observed[0]), ("obs-large", observed[1]),
                       ("not-acceptable", NotAcceptable())):
        site.add_resource([path], held)
    port = int(sys.argv[1])
    is_secure = sys.argv[2:] == ["dtls"]
    keys = CredentialsMap()
    if is_secure:
        keys.load_from_dict({":device": {"dtls": {"psk": {"ascii": KEY}, "client-identity": {"ascii": IDENTITY}}}})
    await Context.create_server_context(site, bind=("127.0.0.1", port), server_credentials=keys,
                                        transports=["tinydtls_server" if is_secure else "udp6"])
    for held in observed:
        held.tick()
    print(f"listening on coaps://127.0.0.1:{port + 1}" if is_secure else f"listening on coap://127.0.0.1:{port}", flush=True)
    await asyncio.get_running_loop().create_future()


asyncio.run(main())
