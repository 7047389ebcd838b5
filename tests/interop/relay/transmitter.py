"""What a client may do with a hosted transmitter, with each of the clients: the checks of the pager contract's resources."""

import itertools
import threading
import time

MODULUS = 65_535
MANY = 30
# A ping comes every 30 s.
PING_WITHIN = 35


class Seen:
    """The checks of one client, against a relay of its own."""

    def __init__(self, group, tap, client):
        self.group, self.tap, self.client = group, tap, client

    def ask(self, what, method, path, body=None, etag=None, code=None, is_right=lambda body: True):
        """A request; its code and its body are checked."""
        answer = self.client.call(method, path, body, etag)
        try:
            ok = answer.code == code and is_right(answer.json() if answer.payload else None)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            ok, answer.code = False, f"{answer.code} {error!r}"
        self.group.check(what, ok, answer.sent, answer)
        return answer

    def check(self, what, ok, sent, seen):
        self.group.check(what, ok, sent, seen)


def is_empty(body):
    return body is None


def has_envelope(body, *types):
    """Whether a body has the envelope, and what its types name."""
    names = ("globalSessionSequence", "timestamp", "deviceName", "firmwareVersion")
    payload = [] if types == ("ping",) else types
    return body["responseTypes"] == list(types) and all(name in body for name in (*names, *payload))


def one(state, **members):
    """Whether a body carries one session in that state."""
    def is_right(body):
        (session,) = body["sessions"]
        return session["state"] == state and all(session[name] == value for name, value in members.items())
    return is_right


def told(bodies):
    """Of an observer's bodies, the changes of sessions; the first body may be the list."""
    return [body for body in bodies[1:] if "sessions" in body["responseTypes"]]


def in_steps(changes):
    """Whether each change is one step after the last, and its session says the same number."""
    numbers = [body["globalSessionSequence"] for body in changes]
    steps = all(after == (before + 1) % MODULUS for before, after in zip(numbers, numbers[1:]))
    return steps and all(has_envelope(body, "sessions", "statistics") and
                         [session["sessionSequence"] for session in body["sessions"]] == [body["globalSessionSequence"]]
                         for body in changes)


def shown(changes):
    return [(body["sessions"][0]["number"], body["sessions"][0]["state"], body["sessions"][0].get("clearType"))
            for body in changes]


def life(seen):
    """One session after the other: created, changed, paged, cleared, removed. Answers what observers are to hear."""
    answer = seen.ask("GET /v1/sessions: nobody yet", "GET", "/v1/sessions", code="2.05",
                      is_right=lambda body: has_envelope(body, "sessions", "statistics") and body["sessions"] == [])
    seen.ask("ETag: 2.03 without a payload", "GET", "/v1/sessions", etag=answer.etag, code="2.03", is_right=is_empty)
    seen.ask("POST creates: 2.01", "POST", "/v1/sessions", {"number": 23, "goal": 60, "label": "Zoë", "partySize": 4},
             code="2.01", is_right=one("started", number=23, goalInSeconds=60, label="Zoë", partySize=4))
    seen.ask("ETag of what was there: 2.05", "GET", "/v1/sessions", etag=answer.etag, code="2.05",
             is_right=one("started", number=23))
    seen.ask("GET ?number=: one session, without statistics", "GET", "/v1/sessions?number=23", code="2.05",
             is_right=lambda body: has_envelope(body, "sessions") and "statistics" not in body)
    seen.ask("POST again changes: 2.04", "POST", "/v1/sessions", {"number": 23, "label": "Sarah"}, code="2.04",
             is_right=one("started", number=23, label="Sarah", partySize=4))
    seen.ask("PUT action page: 2.04", "PUT", "/v1/sessions?number=23", {"action": "page", "pageMode": "Flash30Sec"}, code="2.04",
             is_right=lambda body: one("paged")(body) and "notified" in body["sessions"][0])
    seen.ask("PUT action clear: 2.04", "PUT", "/v1/sessions?number=23", {"action": "clear"}, code="2.04",
             is_right=one("cleared", clearType="STOP"))
    seen.ask("POST, and page in one", "POST", "/v1/sessions", {"number": 24, "action": "page"}, code="2.01",
             is_right=one("paged"))
    seen.ask("PUT action remove: 2.04", "PUT", "/v1/sessions?number=24", {"action": "remove"}, code="2.04",
             is_right=one("cleared", clearType="REMOVED"))
    seen.ask("POST with nothing but a number", "POST", "/v1/sessions", {"number": 25}, code="2.01",
             is_right=one("started", partySize=1, label=None))
    seen.ask("DELETE ?number=: 2.02 without a payload", "DELETE", "/v1/sessions?number=25", code="2.02",
             is_right=is_empty)
    return [(23, "started", None), (23, "started", None), (23, "paged", None), (23, "cleared", "STOP"), (24, "paged", None),
            (24, "cleared", "REMOVED"), (25, "started", None), (25, "cleared", "REMOVED")]


def refusals(seen):
    for method, body in (("GET", None), ("PUT", {"action": "page"}), ("DELETE", None)):
        seen.ask(f"{method} of a pager without a session: 4.04", method, "/v1/sessions?number=999", body, code="4.04")
    seen.ask("an action that there is not: 4.00", "POST", "/v1/sessions", {"number": 26, "action": "shout"}, code="4.00")
    seen.ask("POST without a number: 4.00", "POST", "/v1/sessions", {"label": "x"}, code="4.00")
    seen.ask("PUT of the statistics: 4.05", "PUT", "/v1/sessions/statistics", {}, code="4.05")
    seen.ask("an action of /v1/notify that there is not: 4.00", "GET", "/v1/notify?action=x", code="4.00")


def resources(seen):
    """What moves no sequence: history, statistics, settings, pages without a session."""
    seen.ask("history: all three, by id, how each ended", "GET", "/v1/sessions/history", code="2.05",
             is_right=lambda body: has_envelope(body, "session_history") and
             [(held["number"], held["clearType"]) for held in body["session_history"]] ==
             [(23, "STOP"), (24, "REMOVED"), (25, "REMOVED")])
    seen.ask("statistics", "GET", "/v1/sessions/statistics", code="2.05",
             is_right=lambda body: has_envelope(body, "statistics") and
             (body["statistics"]["numSessions"], body["statistics"]["guestsServed"]) == (3, 2))
    seen.ask("DELETE of the statistics: 2.02", "DELETE", "/v1/sessions/statistics", code="2.02", is_right=is_empty)
    seen.ask("statistics are at nothing again", "GET", "/v1/sessions/statistics", code="2.05",
             is_right=lambda body: set(body["statistics"].values()) == {0})
    seen.ask("a page without a session: 2.04", "POST", "/v1/page", {"number": 77, "message": "Table ready", "systemId": 3},
             code="2.04")
    seen.ask("a mode that there is not: 4.00", "POST", "/v1/page", {"number": 77, "pageMode": "Sing"}, code="4.00")
    seen.ask("settings", "GET", "/v1/settings", code="2.05", is_right=lambda body: has_envelope(body, "settings"))
    seen.ask("POST of settings: 2.04", "POST", "/v1/settings", {"systemId": 5, "defaultTargetGoal": 240}, code="2.04",
             is_right=lambda body: has_envelope(body, "settings") and
             (body["settings"]["systemId"], body["settings"]["defaultTargetGoal"]) == (5, 240))


def observers_heard(seen, observers, wanted):
    """Each observer heard of every change, in order, and of the settings."""
    for what, observation in observers.items():
        bodies = observation.wait(lambda bodies: len(told(bodies)) >= len(wanted) and any("settings" in body for body in bodies))
        changes = told(bodies)
        numbers = [body.get("globalSessionSequence") for body in bodies]
        seen.check(f"{what}: every change, in order", shown(changes) == wanted, f"observe {observation.path}", shown(changes))
        seen.check(f"{what}: steps of one", in_steps(changes), f"observe {observation.path}", numbers)
        settings = [body for body in bodies if body["responseTypes"] == ["settings"]]
        ok = len(settings) == 1 and has_envelope(settings[0], "settings") and settings[0]["settings"]["systemId"] == 5
        ok = ok and settings[0]["globalSessionSequence"] == changes[-1]["globalSessionSequence"] if changes else False
        seen.check(f"{what}: settings, without a step", ok, f"observe {observation.path}", settings or bodies)


def first_answers(seen, observers):
    for what, observation in observers.items():
        bodies = observation.wait(lambda bodies: bodies)
        types = ("sessions", "statistics") if "get_sessions" in observation.path else ("ping",)
        seen.check(f"{what}: its first answer", bodies and has_envelope(bodies[0], *types), f"observe {observation.path}", bodies)


def cancelled(seen, observation, others):
    """One observer goes: it hears nothing more, others do. Who does not say so resets one of the next notifications, as
    RFC 7641 lets a client; aiocoap the second."""
    observation.cancel()
    bodies, changes = len(observation.bodies()), []
    for number in (30, 31):
        for what, method, path, body, code, change in (
                ("POST", "POST", "/v1/sessions", {"number": number}, "2.01", (number, "started", None)),
                ("DELETE", "DELETE", f"/v1/sessions?number={number}", None, "2.02", (number, "cleared", "REMOVED"))):
            seen.ask(f"{what} of pager {number}, while one has cancelled", method, path, body, code=code)
            changes.append(change)
            for other in others.values():
                other.wait(lambda bodies: change in shown(told(bodies)))
        # What the one who left says of it, if it says something, is there by then.
        time.sleep(0.3)
    for what, other in others.items():
        heard = shown(told(other.bodies()))[-len(changes):]
        seen.check(f"{what}: goes on when another has cancelled", heard == changes, f"observe {other.path}", heard)
    endings = seen.tap.endings()
    ok = list(endings.values()) == [[]] and len(observation.bodies()) == bodies
    seen.check("cancel: nothing more is sent", ok, f"cancel {observation.path}", f"{endings} {observation.bodies()[bodies:]}")
    return changes


def many(seen):
    """So many sessions that bodies go in blocks."""
    for number in range(100, 100 + MANY):
        answer = seen.client.call("POST", "/v1/sessions", {"number": number, "label": f"Party of {number}"})
        if answer.code != "2.01":
            seen.check(f"POST of pager {number}", False, answer.sent, answer)
    numbers = list(range(100, 100 + MANY))
    is_whole = lambda body: [held["number"] for held in body["sessions"]] == numbers  # noqa: E731
    answer = seen.ask(f"GET of {MANY} sessions, in blocks", "GET", "/v1/sessions", code="2.05", is_right=is_whole)
    blocks = [held.block2.block_number for held in seen.tap.messages() if held.is_answer and held.block2]
    seen.check("they went in blocks of 1,024", blocks and max(blocks) == (len(answer.payload) - 1) // 1024, answer.sent,
               f"{len(answer.payload)} bytes, blocks {blocks}")
    seen.ask("ETag of a body in blocks: 2.03", "GET", "/v1/sessions", etag=answer.etag, code="2.03", is_right=is_empty)
    observers = {f"observer {at} of {MANY} sessions": seen.client.observe("/v1/notify?action=get_sessions", 8) for at in (1, 2)}
    for what, observation in observers.items():
        bodies = observation.wait(lambda bodies: bodies)
        seen.check(f"{what}: its first answer, in blocks", bodies and is_whole(bodies[0]), f"observe {observation.path}", bodies)
    seen.ask("PUT action page of one of them", "PUT", "/v1/sessions?number=110", {"action": "page"}, code="2.04",
             is_right=one("paged"))
    for what, observation in observers.items():
        bodies = observation.wait(lambda bodies: told(bodies))
        heard = bodies and shown(told(bodies)) == [(110, "paged", None)] and in_steps([*told(bodies)])
        steps = heard and told(bodies)[0]["globalSessionSequence"] == (bodies[0]["globalSessionSequence"] + 1) % MODULUS
        seen.check(f"{what}: what follows is one step after it", steps, f"observe {observation.path}", shown(told(bodies)))
    seen.ask("DELETE of all sessions: 2.02", "DELETE", "/v1/sessions", code="2.02", is_right=is_empty)
    for what, observation in observers.items():
        bodies = observation.wait(lambda bodies: len(told(bodies)) > MANY)
        changes = told(bodies)
        ok = shown(changes)[1:] == [(number, "cleared", "STOP") for number in numbers]
        seen.check(f"{what}: a step for each that was cleared", ok and in_steps(changes), f"observe {observation.path}",
                   shown(changes))
        observation.cancel()
    seen.ask("GET /v1/sessions: nobody again", "GET", "/v1/sessions", code="2.05", is_right=lambda body: body["sessions"] == [])
    seen.ask("history, in blocks", "GET", "/v1/sessions/history", code="2.05",
             is_right=lambda body: [held["number"] for held in body["session_history"]][-MANY:] == numbers)
    seen.ask("DELETE of the history: 2.02", "DELETE", "/v1/sessions/history", code="2.02", is_right=is_empty)
    seen.ask("no history", "GET", "/v1/sessions/history", code="2.05", is_right=lambda body: body["session_history"] == [])


def while_it_changes(seen, other):
    """An observer whose first answer is in blocks gets it whole, and then all that changed since it was taken."""
    numbers = list(range(100, 100 + MANY))
    for number in numbers:
        other.call("POST", "/v1/sessions", {"number": number, "label": "x" * 200})
    is_over = threading.Event()

    def change():
        for count in itertools.count():
            if is_over.is_set():
                return
            other.call("PUT", f"/v1/sessions?number={100 + count % MANY}", {"label": f"change {count}"})

    changing = threading.Thread(target=change)
    changing.start()
    for at in range(1, 4):
        observation = seen.client.observe("/v1/notify?action=get_sessions", 2)
        bodies = observation.wait(lambda bodies: len(bodies) > 5, 8)
        ok = len(bodies) > 5 and [held["number"] for held in bodies[0]["sessions"]] == numbers and "statistics" in bodies[0]
        steps = [body["globalSessionSequence"] for body in bodies]
        ok = ok and in_steps(told(bodies)) and all(new == (old + 1) % MODULUS for old, new in zip(steps, steps[1:]))
        seen.check(f"observer {at} while sessions change: all of them, then each change", ok, f"observe {observation.path}",
                   f"{steps} {bodies[:1]}")
        observation.cancel()
    is_over.set()
    changing.join()
    other.call("DELETE", "/v1/sessions")
    other.close()


def pinged(seen, observation, since):
    """A ping comes to who observes, and is acknowledged."""
    is_ping = lambda body: body["responseTypes"] == ["ping"]  # noqa: E731
    left = PING_WITHIN - (time.monotonic() - since)
    bodies = observation.wait(lambda bodies: any(is_ping(body) for body in bodies[1:]), max(left, 0.1))
    pings = [body for body in bodies[1:] if is_ping(body)]
    seen.check(f"a ping within {PING_WITHIN} s", pings and has_envelope(pings[0], "ping"), f"observe {observation.path}",
               f"{len(bodies)} bodies, the last {bodies[-1:]}")
    time.sleep(0.2)
    found = seen.tap.pings()
    ok = found and all(done for _, done in found)
    seen.check("the ping is confirmable, and acknowledged", ok, f"observe {observation.path}", found)


def checks(group, tap, client, other):
    seen = Seen(group, tap, client)
    since = time.monotonic()
    observers = {
        "observer": client.observe("/v1/notify", 55),
        "observer with get_sessions": client.observe("/v1/notify?action=get_sessions", 55),
    }
    leaver = client.observe("/v1/notify", 8)
    first_answers(seen, observers | {"observer who will leave": leaver})
    wanted = life(seen)
    refusals(seen)
    resources(seen)
    observers_heard(seen, observers | {"observer who will leave": leaver}, wanted)
    wanted += cancelled(seen, leaver, observers)
    many(seen)
    count = len(wanted) + 2 * MANY + 1
    for what, observation in observers.items():
        bodies = observation.wait(lambda bodies: len(told(bodies)) >= count)
        changes = told(bodies)
        ok = len(changes) == count and in_steps(changes)
        seen.check(f"{what}: {count} changes in all, steps of one", ok, f"observe {observation.path}",
                   f"{len(changes)}: {[body['globalSessionSequence'] for body in changes]} {observation.error}")
    while_it_changes(seen, other)
    pinged(seen, observers["observer"], since)
