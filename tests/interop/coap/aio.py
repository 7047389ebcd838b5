"""aiocoap's client against our server."""

import asyncio
import logging
import re

from aiocoap import CON, DELETE, GET, NON, POST, PUT, Context, Message
from aiocoap.optiontypes import BlockOption

from harness import IDENTITY, KEY, PAYLOAD_4K, PAYLOAD_20K, lines

# What fails is reported; its log would stand between the checks' lines.
logging.getLogger("coap").setLevel(logging.CRITICAL)


def dotted(code):
    return f"{int(code) >> 5}.{int(code) & 31:02}"


class Client:
    def __init__(self, group, base, context):
        self.group, self.base, self.context = group, base, context

    async def call(self, path, code=GET, **options):
        request = Message(code=code, uri=self.base + path, payload=options.pop("payload", b""),
                          _mtype=options.pop("mtype", CON))
        for name, value in options.items():
            setattr(request.opt, name, value)
        response = await asyncio.wait_for(self.context.request(request).response, 30)
        self.sent, self.response = f"{code} {path} {options}", response
        return response

    def check(self, what, ok):
        response = self.response
        self.group.check(what, ok, self.sent, f"{dotted(response.code)} {response.opt} {response.payload[:300]!r}")

    def is_code(self, code):
        return dotted(self.response.code) == code


async def basics(client):
    for mode, mtype in (("CON", CON), ("NON", NON)):
        for code, wanted in ((GET, "2.05"), (PUT, "2.04"), (POST, "2.01"), (DELETE, "2.02")):
            has_body = code in (PUT, POST)
            options = {"payload": b"new", "content_format": 0} if has_body else {}
            await client.call("/test", code, mtype=mtype, **options)
            client.check(f"{code}, {mode}", client.is_code(wanted))
            if code == PUT:
                await client.call("/test")
                client.check(f"GET sees what PUT as {mode} put", client.response.payload == b"new")
        await client.call("/separate", mtype=mtype)
        client.check(f"a separate answer, {mode}", client.response.payload == b"a separate answer")
    await client.call("/create2", POST, payload=b"x")
    client.check("Location-Path", client.response.opt.location_path == ("location1", "location2", "location3"))
    await client.call("/location-query", POST, payload=b"x")
    client.check("Location-Query", client.response.opt.location_query == ("first=1", "second=2"))
    for accept, code in ((0, "2.05"), (41, "2.05"), (50, "4.06")):
        await client.call("/multi-format", accept=accept)
        is_right = code != "2.05" or int(client.response.opt.content_format) == accept
        client.check(f"Accept {accept}", client.is_code(code) and is_right)
    await client.call("/nowhere")
    client.check("no such resource: 4.04", client.is_code("4.04"))
    await client.call("/large", DELETE)
    client.check("no such method: 4.05", client.is_code("4.05"))


async def conditions(client):
    tag = (await client.call("/validate")).opt.etag
    client.check("an ETag", tag)
    await client.call("/validate", etags=[tag])
    client.check("ETag: 2.03 without a payload", client.is_code("2.03") and not client.response.payload)
    for code in ("2.04", "4.12"):
        await client.call("/validate", PUT, payload=b"other", if_match=[tag])
        client.check(f"If-Match: {code}", client.is_code(code))
    await client.call("/validate", etags=[tag])
    client.check("ETag of what was there: 2.05", client.response.payload == b"other")
    for code in ("2.01", "4.12"):
        await client.call("/create1", PUT, payload=b"x", if_none_match=True)
        client.check(f"If-None-Match: {code}", client.is_code(code))


async def blocks(client):
    for exponent in (None, 0, 2, 6):
        options = {} if exponent is None else {"block2": BlockOption.BlockwiseTuple(0, False, exponent)}
        await client.call("/large", **options)
        size = "late" if exponent is None else 16 << exponent
        client.check(f"Block2, {size}", client.response.payload == lines(0, 2048))
    for body in (PAYLOAD_4K, PAYLOAD_20K):
        length = f"{len(body):,} bytes"
        await client.call("/large-update", DELETE)
        await client.call("/large-update", PUT, payload=body)
        client.check(f"Block1 PUT of {length}", client.is_code("2.04"))
        await client.call("/large-update")
        client.check(f"Block2 of {length}", client.response.payload == body)
        await client.call("/large-create", POST, payload=body)
        path = client.response.opt.location_path
        client.check(f"Block1 POST of {length} creates", client.is_code("2.01") and path[0] == "large-create")
        await client.call("/" + "/".join(path))
        client.check(f"GET of what POST created with {length}", client.response.payload == body)
        await client.call("/large-post", POST, payload=body)
        client.check(f"Block1 and Block2 in one POST of {length}", client.response.payload == body)


async def observe(client, path, least, is_right):
    request = Message(code=GET, uri=client.base + path, observe=0)
    pending = client.context.request(request)
    first = await asyncio.wait_for(pending.response, 10)
    bodies, ended = [first.payload], None

    async def collect():
        async for notification in pending.observation:
            bodies.append(notification.payload)
            if len(bodies) >= least:
                return

    try:
        await asyncio.wait_for(collect(), 8)
    except Exception as error:  # noqa: BLE001 how it ended is what the check looks at
        ended = repr(error)
    pending.observation.cancel()
    ok = len(bodies) >= least and all(is_right(body) for body in bodies)
    client.group.check(f"observe {path}: several notifications", ok, f"GET {path}, Observe 0",
                       f"{[body[:40] for body in bodies]} {ended}")


def in_order(body):
    """Whether a body is of the lines that `lines` writes."""
    numbers = [int(number) for number in re.findall(rb"line (\d+)\n", body)]
    return len(numbers) * 16 == len(body) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def observations(client):
    await asyncio.gather(*(observe(client, path, 4, is_right) for path, is_right in (
        ("/obs", bytes.isdigit), ("/obs-non", bytes.isdigit), ("/obs-reset", bytes.isdigit),
        ("/obs-large", lambda body: len(body) == 2048 and in_order(body)), ("/obs-pumping", in_order),
        ("/obs-pumping-non", in_order))))
    # What was cancelled goes on for others, and can be asked for again.
    await observe(client, "/obs", 3, bytes.isdigit)
    # Somebody deletes what is observed.
    pending = client.context.request(Message(code=GET, uri=client.base + "/obs", observe=0))
    await asyncio.wait_for(pending.response, 10)
    codes, ended = [], None

    async def collect():
        async for notification in pending.observation:
            codes.append(dotted(notification.code))

    # It listens before there is something to hear: aiocoap does not say later that an observation has ended.
    collecting = asyncio.ensure_future(asyncio.wait_for(collect(), 5))
    await asyncio.sleep(0.05)
    await client.call("/obs", DELETE)
    try:
        await collecting
    except Exception as error:  # noqa: BLE001 how it ended is what the check looks at
        ended = repr(error)
    client.group.check("observe: DELETE ends it: 4.04", codes[-1:] == ["4.04"], "DELETE /obs", f"{codes} {ended}")


async def discovery(client):
    for query, links in (("rt=Type2", {"/link1", "/link2"}), ("if=If*", {"/link1", "/link2"}), ("href=/link1", {"/link1"}),
                         ("sz=*", {"/large", "/large-update", "/obs-large"})):
        await client.call(f"/.well-known/core?{query}")
        found = set(re.findall(r"<(.*?)>", client.response.payload.decode()))
        client.check(f"/.well-known/core?{query}", found == links and int(client.response.opt.content_format) == 40)
    await client.call("/.well-known/core")
    client.check("/.well-known/core", b"</path>;ct=40" in client.response.payload)


async def context_for(base, identity=IDENTITY, key=KEY):
    """A client; of coaps it has a key."""
    context = await Context.create_client_context()
    if base.startswith("coaps"):
        psk = {"psk": {"ascii": key}, "client-identity": {"ascii": identity}}
        context.client_credentials.load_from_dict({f"{base}/*": {"dtls": psk}})
    return context


def wrong_keys(group, base):
    """Who has no key, or another one, fails alone."""
    async def ask(identity, key):
        context = await context_for(base, identity, key)
        try:
            response = await asyncio.wait_for(context.request(Message(code=GET, uri=f"{base}/test")).response, 10)
            return dotted(response.code)
        except Exception as error:  # noqa: BLE001 how it failed is what the check looks at
            return repr(error)
        finally:
            await context.shutdown()

    for what, identity, key in (("a wrong key", IDENTITY, "another sixteen!"), ("an unknown identity", "nobody", KEY)):
        said = asyncio.run(ask(identity, key))
        # The alert's number: handshake_failure.
        group.check(f"{what} is refused at once", "NetworkError" in said and "40" in said, "GET /test", said)
        said = asyncio.run(ask(IDENTITY, KEY))
        group.check(f"after {what}, others are served", said == "2.05", "GET /test", said)


def get(group, base):
    """One request of aiocoap's own client."""
    async def ask():
        context = await context_for(base)
        try:
            return await asyncio.wait_for(context.request(Message(code=GET, uri=f"{base}/test")).response, 10)
        finally:
            await context.shutdown()

    response = asyncio.run(ask())
    group.check("its own client is served", dotted(response.code) == "2.05", "GET /test", repr(response))


def checks(group, base):
    async def all_of_them():
        context = await context_for(base)
        client = Client(group, base, context)
        for part in (basics, conditions, blocks, observations, discovery):
            try:
                await part(client)
            except Exception as error:  # noqa: BLE001 whatever it is, it is reported
                group.check(f"{part.__name__}, to the end", False, part.__name__, repr(error))
        await context.shutdown()

    asyncio.run(all_of_them())
