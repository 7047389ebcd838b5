"""What Rollcall serves of a RabbitMQ to broker tools (`/api/v1`, seed 004), beside what paho's and pika's clients did. Of the
contract's keys every one is compared: those that must be there, and those that must not."""

import json
import urllib.error
import urllib.request
from urllib.parse import quote, urlencode

from clients import Amqp, Mqtt, eventually
from rollcall import NAME

# What a session always has, and what it has of a source that does not know it: RabbitMQ tells none of these (contract §3.2).
UNKNOWN = {"receive_maximum": 0, "max_packet_size": 0, "topic_alias_max": 0, "request_response": False, "request_problem": False,
           "has_will": False}
# RabbitMQ's time to live of a queue that a client leaves behind.
KEPT = 86_400
KEPT_FILTERS = ["tools/+/events", "tools/ä b"]


class Tools:
    """A broker tool: reads one broker's sessions."""

    def __init__(self, cloud, base="/api/v1"):
        self.cloud, self.base = cloud, base

    def ask(self, path, **query):
        """Status, document and age."""
        url = f"{self.cloud.url}{self.base}/{path}?{urlencode({'service': NAME} | query)}"
        request = urllib.request.Request(url, headers={"Authorization": self.cloud.authorization})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer), int(answer.headers["Age"])
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read()), None

    def get(self, path, **query):
        return self.ask(path, **query)[1]

    def session(self, client_id):
        return self.get(f"sessions/{quote(client_id, safe='')}")

    def listed(self, **query):
        """Client ids, in the order that they come in."""
        return [row["client_id"] for row in self.get("sessions", **query)["sessions"]]

    def age(self):
        return self.ask("sessions", limit=1)[2]

    def paged(self, path, key, **query):
        """Rows of all pages, and how many pages there were."""
        rows, pages, token = [], 0, {}
        while True:
            page = self.get(path, **query, **token)
            rows, pages = rows + page[key], pages + 1
            if "next_page_token" not in page:
                return rows, pages
            token = {"page_token": page["next_page_token"]}


def in_order(client_ids):
    return sorted(client_ids, key=str.encode)


def subscription(topic):
    """As the tools are told of it: RabbitMQ knows QoS, and nothing of MQTT 5."""
    return {"filter": topic, "qos": 1, "no_local": False, "retain_as_published": False, "retain_handling": 0}


def mqtt_session(client_id, filters, **other):
    """All of a connected MQTT session, or what is other with it; its times apart. It acknowledged what was sent to it."""
    listed = {"subscriptions": [subscription(topic) for topic in in_order(filters)]} if filters else {}
    return UNKNOWN | listed | {
        "client_id": client_id, "state": "connected", "connected": True, "protocol": "mqtt3.1.1", "version": 4,
        "clean_start": False, "expiry_interval": KEPT, "subscription_count": len(filters), "inflight_count": 0,
        "offline_queue_depth": 0} | other


def away_session(client_id, filters, waiting):
    """Of who is away RabbitMQ knows its queue alone: not what it spoke, nor when it came or left (contract §3.2)."""
    return mqtt_session(client_id, filters, state="disconnected", connected=False, protocol="unknown", version=0,
                        offline_queue_depth=waiting)


def amqp_session(client, name, queues):
    return UNKNOWN | {
        "client_id": client.client_id, "connection_name": name, "state": "connected", "connected": True,
        "protocol": "amqp0.9.1", "version": 0, "clean_start": False, "expiry_interval": 0, "subscription_count": len(queues),
        "inflight_count": 0, "offline_queue_depth": 0, "subscriptions": [subscription(queue) for queue in sorted(queues)]}


def serves(checks, tools, what, wanted):
    """Waits until a session is wholly so, with the time of its connection where it is connected."""
    def is_right(seen):
        times = {"connected_at": seen.get("connected_at")} if wanted["connected"] else {}
        return seen == wanted | times and None not in times.values()

    seen, ok = eventually(lambda: tools.session(wanted["client_id"]), is_right)
    checks.check(what, ok, wanted, seen)


def details(checks, tools, broker):
    """Clients of every sort, and all that is told of each; they stay connected."""
    kept = Mqtt(broker.mqtt, "tools/kept é/1", clean=False)
    kept.subscribe(*((topic, 1) for topic in KEPT_FILTERS))
    away = Mqtt(broker.mqtt, "tools/away/50%", clean=False)
    away.subscribe(("tools/+/events", 1), ("tools/wait", 1))
    away.close()
    clean = Mqtt(broker.mqtt, "tools/Clean", clean=True)
    clean.subscribe(("tools/Clean", 1))
    mute = Mqtt(broker.mqtt, "mute", clean=True)
    line = Amqp(broker.amqp, "tools' consumer", ["tools.work", "tools.audit"])
    for what, wanted in [
        ("a persistent session, whole", mqtt_session("tools/kept é/1", KEPT_FILTERS)),
        ("a clean session, whole", mqtt_session("tools/Clean", ["tools/Clean"], clean_start=True, expiry_interval=0)),
        # Without a subscription at QoS 1 RabbitMQ does not tell whether it is clean.
        ("one without subscriptions has no key for them", mqtt_session("mute", [], expiry_interval=0)),
        ("an AMQP connection, whole", amqp_session(line, "tools' consumer", ["tools.work", "tools.audit"])),
    ]:
        serves(checks, tools, what, wanted)
    mute.close()
    publisher = Mqtt(broker.mqtt, "tools publisher", clean=True)
    publisher.publish("tools/wait", 4)
    publisher.close()
    serves(checks, tools, "who is away, with what waits", away_session("tools/away/50%", ["tools/+/events", "tools/wait"], 4))
    return kept, clean, line


def lists(checks, tools):
    ids = in_order(["tools/kept é/1", "tools/away/50%", "tools/Clean"])
    seen, ok = eventually(lambda: tools.listed(prefix="tools/"), lambda seen: seen == ids)
    checks.check("a prefix, in the order of bytes", ok, ids, seen)
    here, there = (tools.listed(prefix="tools/", state=state) for state in ("connected", "DISCONNECTED"))
    checks.check("by state", (here, there) == ([ids[0], ids[2]], [ids[1]]), ids, (here, there))
    checks.check("a prefix of another case has none", tools.listed(prefix="TOOLS/") == [], [], tools.listed(prefix="TOOLS/"))
    rows, pages = tools.paged("sessions", "sessions", prefix="tools/", limit=1)
    checks.check("page by page", ([row["client_id"] for row in rows], pages) == (ids, 3), ids, (rows, pages))
    known = {client_id: tools.session(client_id) for client_id in ids}
    for held in known.values():
        held.pop("subscriptions", None)
    checks.check("a row is what the session is, without subscriptions", {row["client_id"]: row for row in rows} == known, known,
                 rows)
    token = tools.get("sessions", prefix="tools/", limit=1)["next_page_token"]
    for what, query, text in [
        ("a token under another filter", {"page_token": token, "state": "connected"}, "invalid page_token"),
        ("a state that is none", {"state": "asleep"}, "state must be one of: connected, disconnected, all"),
        ("a limit that is none", {"limit": "-1"}, "limit must be a non-negative integer"),
    ]:
        status, said, _ = tools.ask("sessions", **query)
        checks.check(f"{what} is refused", (status, said) == (400, {"error": text}), text, (status, said))
    status, said, _ = tools.ask("sessions/tools/kept")
    checks.check("a slash that is not escaped is another path", (status, said) == (404, {"error": "session not found"}), 404,
                 (status, said))
    whole = tools.get("sessions", prefix="tools/")
    of_project = Tools(checks.cloud, f"/api/v1/projects/{checks.cloud.project}/broker").get("sessions", prefix="tools/")
    checks.check("the project's list is the same", whole == of_project, whole, of_project)


def filters(checks, tools, line):
    def row(topic, clients):
        return {"filter": topic, "subscriber_count": clients, "max_qos": 1}

    every = [row("tools.audit", 1), row("tools.work", 1), row("tools/+/events", 2), row("tools/Clean", 1), row("tools/wait", 1),
             row("tools/ä b", 1)]
    seen = tools.get("subscriptions", state="all", prefix="tools")["subscriptions"]
    checks.check("filters and AMQP's queues, with their clients' count", seen == every, every, seen)
    paged, _ = tools.paged("subscriptions", "subscriptions", state="all", prefix="tools", limit=2)
    checks.check("the same page by page", paged == every, every, paged)
    here = [row("tools.audit", 1), row("tools.work", 1), row("tools/+/events", 1), row("tools/Clean", 1), row("tools/ä b", 1)]
    seen = tools.get("subscriptions", prefix="tools")["subscriptions"]
    checks.check("of who is connected, where nothing else is asked for", seen == here, here, seen)
    for topic, client_ids in [("tools/+/events", ["tools/away/50%", "tools/kept é/1"]), ("tools.work", [line.client_id]),
                              ("nobody/wants this", [])]:
        wanted = {"filter": topic, "clients": [{"client_id": client_id, "qos": 1} for client_id in client_ids]}
        seen = tools.get(f"subscriptions/{quote(topic, safe='')}/clients", state="all")
        checks.check(f"the clients of {topic}", seen == wanted, wanted, seen)


def figures(checks, tools, broker):
    """What the broker counts of itself. It reports every 5 s, and the relay no more often than every 20 s where nothing else is."""
    def look():
        connected, sessions = len(tools.listed(state="connected")), len(tools.listed())
        return {"connected": connected, "sessions": sessions, "overview": tools.get("overview"), "stats": tools.get("stats")}

    def is_right(seen):
        stats = seen["stats"]
        by_protocol = sum(of["connections"]["current"] for of in stats["by_protocol"].values())
        return (seen["overview"]["sessions"] == {"connected": seen["connected"], "total": seen["sessions"]}
                and stats["connections"]["current"] == by_protocol == seen["connected"])

    seen, ok = eventually(look, is_right)
    checks.check("as many are counted as are listed", ok, "the same", seen)
    stats = seen["stats"]
    created = broker.get("overview")["churn_rates"]["connection_created"]
    checks.check("connections there ever were, no more than the broker counts by now",
                 seen["connected"] <= stats["connections"]["total"] <= created, created, stats)
    # The node is up since before there was a client.
    up = broker.get("nodes")[0]["uptime"] / 1000
    checks.check("how long it is up", 0 < stats["uptime_seconds"] <= up + 1, up, stats)
    wanted = {"node_id": "single-node", "cluster_mode": False, "is_leader": True, "nodes": []}
    cluster = tools.get("cluster")
    checks.check("one node is no cluster", cluster == wanted, wanted, cluster)


def broker_tools(checks):
    broker, tools = checks.broker, Tools(checks.cloud)
    kept, clean, line = details(checks, tools, broker)
    lists(checks, tools)
    filters(checks, tools, line)
    figures(checks, tools, broker)
    clean.close()
    seen, ok = eventually(lambda: tools.ask("sessions/tools%2FClean")[:2], lambda seen: seen[0] == 404)
    checks.check("a clean session is not found when its client has gone", ok, "session not found", seen)
    line.close()
    seen, ok = eventually(lambda: tools.ask(f"sessions/{quote(line.client_id, safe='')}")[0], lambda seen: seen == 404)
    checks.check("nor is an AMQP connection that closed", ok, 404, seen)
    kept.close()
    serves(checks, tools, "a kept one is", away_session("tools/kept é/1", KEPT_FILTERS, 0))


def finds_all(checks, client_ids, state):
    """Every id is found by its own path, and all of them in the list."""
    tools = Tools(checks.cloud)
    found = {client_id: tools.session(client_id) for client_id in client_ids}
    lost = {client_id: held for client_id, held in found.items()
            if (held.get("client_id"), held.get("state")) != (client_id, state)}
    checks.check(f"broker tools find each by its path, {state}", not lost, state, lost)
    listed = tools.listed(state=state)
    checks.check("and all of them in the list", listed == in_order(listed) and set(client_ids) <= set(listed), client_ids, listed)


def lists_a_crowd(checks, client_ids):
    """More than goes out in one piece: whole, and page by page."""
    tools = Tools(checks.cloud)
    listed = tools.listed(prefix="crowd/", limit=0)
    checks.check("broker tools list them without a limit", listed == client_ids, len(client_ids), len(listed))
    rows, pages = tools.paged("sessions", "sessions", prefix="crowd/", limit=100, state="connected")
    ok = ([row["client_id"] for row in rows], pages) == (client_ids, -(-len(client_ids) // 100))
    checks.check("and by the hundred", ok, len(client_ids), (len(rows), pages))


def lists_nobody(checks):
    listed = Tools(checks.cloud).listed(prefix="crowd/")
    checks.check("broker tools list none of them", not listed, [], listed)


def grows_old(checks, *client_ids):
    """While nobody can ask the broker: its sessions are told as they were, and how old that is."""
    tools = Tools(checks.cloud)
    at_first = tools.age()
    # A minute: longer than any time-out, and so long that the relay asks seldom.
    age, ok = eventually(tools.age, lambda age: age >= at_first + 60, within=90)
    checks.check("broker tools are told how old the picture is", ok, f"a minute more than {at_first} s", age)
    states = [tools.session(client_id).get("state") for client_id in client_ids]
    checks.check("and who was connected then", states == ["connected"] * len(client_ids), "connected", states)
    return age


def is_young_again(checks, age):
    seen, ok = eventually(Tools(checks.cloud).age, lambda seen: seen < age, within=120)
    checks.check("the picture is new again", ok, f"less than {age} s", seen)
