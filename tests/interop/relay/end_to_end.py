#!/usr/bin/env python3
"""A guest's stay through everything: node-coap tells the transmitter that `rollcall up` hosts, and the generated Python client
reads it of the api, in the sessions and in the feed. Takes the file that `rollcall up --ready-file` writes."""

import json
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

sys.path.insert(0, str(Path(__file__).parent.parent / "coap"))

from clients import Node  # noqa: E402 after the path
from rollcall_client import ApiClient, Configuration, ResourcesApi  # noqa: E402

NUMBER = 4_321
# From the transmitter's answer until the api has it.
WITHIN = 20


def cursor(link):
    """The cursor in a link of a page."""
    return parse_qs(urlsplit(link).query).get("page[after]", [None])[0] if link else None


def until(what, look, is_right):
    """Looks until it is right; answers what it saw."""
    end = time.monotonic() + WITHIN
    while True:
        seen = look()
        if is_right(seen):
            print(f"relay: ok     node-coap -> api: {what}", flush=True)
            return seen
        if time.monotonic() > end:
            sys.exit(f"relay: FAILED node-coap -> api: {what}\n  seen: {seen}")
        time.sleep(0.1)


def main():
    ready = json.loads(Path(sys.argv[1]).read_text())
    key = ready["api_key"]
    resources = ResourcesApi(ApiClient(Configuration(host=ready["http"], username=key["id"], password=key["secret"])))
    client = Node(f"coap://{urlsplit(ready['coap'] if '//' in ready['coap'] else '//' + ready['coap']).netloc}")
    before = resources.list_events(var_from="now")

    def tell(what, method, path, body, code):
        answer = client.call(method, path, body)
        if answer.code != code:
            sys.exit(f"relay: FAILED node-coap -> transmitter: {what}\n  sent: {answer.sent}\n  seen: {answer}")
        return answer.json()["sessions"][0]

    def sessions():
        page = resources.list_all_sessions(filter_service="front-desk", filter_number=NUMBER)
        return [session.attributes for session in page.data]

    def is_one(state, **members):
        def is_right(seen):
            wanted = members | {"state": state}
            return len(seen) == 1 and all(getattr(seen[0], name) == value for name, value in wanted.items())
        return is_right

    told = tell("creates", "POST", "/v1/sessions", {"number": NUMBER, "goal": 60, "label": "Zoë", "partySize": 3}, "2.01")
    members = {"source_id": told["uuid"], "number": NUMBER, "label": "Zoë", "party_size": 3, "goal": 60}
    until("a session that was created", sessions, is_one("started", active=True, **members))
    tell("pages", "PUT", f"/v1/sessions?number={NUMBER}", {"action": "page"}, "2.04")
    until("a session that was paged", sessions, is_one("paged", active=True, **members))
    tell("clears", "PUT", f"/v1/sessions?number={NUMBER}", {"action": "clear"}, "2.04")
    until("a session that was cleared", sessions, is_one("cleared", active=False, clear_type="STOP", **members))

    events, after = [], cursor(before.links.next)

    def feed():
        nonlocal after
        page = resources.list_events(page_after=after, wait=2, filter_kind="pager")
        events.extend(page.data)
        after = cursor(page.links.next)
        return [(event.attributes.event_type, event.attributes.session.attributes.state) for event in events
                if event.attributes.session and event.attributes.session.attributes.source_id == told["uuid"]]

    until("the feed tells of all three, in order", feed,
          lambda seen: seen == [("created", "started"), ("paged", "paged"), ("cleared", "cleared")])
    client.close()


if __name__ == "__main__":
    main()
