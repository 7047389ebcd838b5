"""What Rollcall serves of a RabbitMQ's clients, beside what the clients did. Every check waits for what must come true: pictures
are taken once a second, and RabbitMQ's statistics are up to seven late."""

import paho.mqtt.client as mqtt

import tools
from clients import Amqp, Crowd, Mqtt, eventually

# What is hard about an id: levels, spaces, what a URL or a queue's name means something by, other alphabets.
ODD_IDS = ["tenant/a/client-1", "two words", "50%", "a%2Fb", "grün/é ß", "q?x=1&y#z", "..", "+", "<&>", "ends in qos1", "qos0",
           "mqtt-subscription-x", "日本"]
# More than a page has.
CROWD = 620


class Checks:
    def __init__(self, group, broker, cloud, relay, way):
        self.group, self.broker, self.cloud, self.relay, self.way = group, broker, cloud, relay, way

    def sessions(self, kind="mqtt"):
        return self.cloud.sessions(kind)

    def until(self, what, client_id, kind="mqtt", within=45, **wanted):
        """Waits until a session is so; the attributes that it has then."""
        def is_right(seen):
            held = seen.get(client_id)
            return held is not None and all(held.get(name) == value for name, value in wanted.items())

        seen, ok = eventually(lambda: self.sessions(kind), is_right, within)
        self.group.check(what, ok, {client_id: wanted}, seen.get(client_id, sorted(map(str, seen))))
        return seen.get(client_id) or {}

    def check(self, what, ok, sent, seen):
        self.group.check(what, ok, sent, seen)

    def events(self, session):
        """A session's, apart from what changed meanwhile."""
        return [event for event in self.cloud.happened(session["id"]) if event != "updated"]

    def happened(self, what, session, *wanted):
        """Waits until these are the session's events."""
        seen, ok = eventually(lambda: self.events(session), lambda seen: seen == list(wanted))
        self.group.check(what, ok, wanted, seen)


def subscriptions(*wanted):
    return [{"filter": topic, "qos": qos} for topic, qos in sorted(wanted)]


def persistent(checks):
    """A session that the broker keeps: connected, away with messages that wait, back."""
    broker = checks.broker
    client = Mqtt(broker.mqtt, "kept/é 1", clean=False)
    client.subscribe(("devices/+/events", 1), ("zero/#", 0), ("exact/twice", 2), ("both", 0), ("both", 1))
    checks.check("QoS 2 is granted as 1", client.granted == [1], "both at QoS 1", client.granted)
    session = checks.until(
        "a persistent session, connected", "kept/é 1", state="connected", active=True, protocol="mqtt3.1.1", user="guest",
        remote="127.0.0.1", port=client.port, clean_start=False, expiry_interval=86_400, inflight=0, queue_depth=0,
        subscriptions=subscriptions(("devices/+/events", 1), ("zero/#", 0), ("exact/twice", 1), ("both", 1)))
    checks.check("it has the time of its connection", session.get("connected_at"), "connected_at", session)
    client.close()
    kept = subscriptions(("devices/+/events", 1), ("exact/twice", 1), ("both", 1))
    checks.until("away: kept, without what it had at QoS 0", "kept/é 1", state="disconnected", active=True, subscriptions=kept,
                 queue_depth=0)
    publisher = Mqtt(broker.mqtt, "publisher", clean=True)
    publisher.publish("devices/7/events", 5)
    publisher.close()
    checks.until("messages wait for it", "kept/é 1", state="disconnected", queue_depth=5)
    client = Mqtt(broker.mqtt, "kept/é 1", clean=False)
    checks.until("back, and nothing waits", "kept/é 1", state="connected", queue_depth=0, port=client.port)
    checks.check("it got what waited", len(client.received) == 5, "5 messages", client.received)
    # Of a subscription from before it came back, RabbitMQ 3.10 takes no leave.
    client.subscribe(("both", 1))
    client.unsubscribe("both")
    checks.until("a filter less", "kept/é 1", subscriptions=subscriptions(("devices/+/events", 1), ("exact/twice", 1)))
    checks.happened("its history", session, "connected", "disconnected", "connected")
    client.close()


def clean(checks):
    client = Mqtt(checks.broker.mqtt, "clean/1", clean=True, protocol=mqtt.MQTTv31)
    client.subscribe(("a.b/c", 1), ("lead//trail/", 0))
    session = checks.until(
        "a clean session of MQTT 3.1, with RabbitMQ's loss of dots", "clean/1", state="connected", protocol="mqtt3.1",
        clean_start=True, expiry_interval=0, subscriptions=subscriptions(("a/b/c", 1), ("lead//trail/", 0)))
    client.close()
    checks.until("it is gone with its client", "clean/1", state="gone", active=False)
    checks.happened("its history", session, "connected", "disconnected")


def odd_ids(checks):
    clients = {client_id: Mqtt(checks.broker.mqtt, client_id, clean=False) for client_id in ODD_IDS}
    for client_id, client in clients.items():
        client.subscribe((f"to/{client_id.replace('+', 'plus').replace('#', 'hash').replace('.', 'dot')}", 1))

    def are(state):
        return lambda seen: all(seen.get(client_id, {}).get("state") == state for client_id in ODD_IDS)

    def states(seen):
        return {client_id: seen.get(client_id, {}).get("state") for client_id in ODD_IDS}

    seen, ok = eventually(checks.sessions, are("connected"))
    checks.check("ids of every sort, connected", ok, ODD_IDS, states(seen))
    tools.finds_all(checks, ODD_IDS, "connected")
    for client in clients.values():
        client.close()
    seen, ok = eventually(checks.sessions, are("disconnected"))
    checks.check("ids of every sort, by their queues alone", ok, ODD_IDS, states(seen))
    tools.finds_all(checks, ODD_IDS, "disconnected")
    extra = [client_id for client_id in seen if client_id not in ODD_IDS and "qos" in str(client_id)]
    checks.check("no id is cut wrongly", not extra, ODD_IDS, extra)


def amqp(checks):
    client = Amqp(checks.broker.amqp, "orders-consumer", ["orders.work", "orders.audit"])
    unnamed = Amqp(checks.broker.amqp, None, [])
    session = checks.until(
        "an AMQP connection and the queues it consumes", client.client_id, "amqp", state="connected", active=True,
        label="orders-consumer", protocol="amqp0.9.1", user="guest", remote="127.0.0.1", port=client.port,
        subscriptions=subscriptions(("orders.work", 1), ("orders.audit", 1)))
    checks.check("what AMQP has not is not told",
                 not {"clean_start", "expiry_interval", "inflight", "queue_depth"} & session.keys(), "no such member", session)
    checks.until("one without a name and without consumers", unnamed.client_id, "amqp", state="connected", subscriptions=[])
    unnamed.close()
    checks.until("it is gone when it closes", unnamed.client_id, "amqp", state="gone")
    checks.broker.kill(checks.broker.connections()[f"127.0.0.1:{client.port}"])
    checks.until("it is gone when the broker ends it", client.client_id, "amqp", state="gone")


def killed(checks):
    broker = checks.broker
    client = Mqtt(broker.mqtt, "killed/1", clean=False)
    client.subscribe(("t", 1))
    checks.until("a client", "killed/1", state="connected")
    broker.kill(broker.connections()["killed/1"])
    client.forget()
    session = checks.until("the broker ends its connection", "killed/1", state="disconnected")
    checks.happened("its history", session, "connected", "disconnected")


def takeover(checks):
    """One client after another with the same id, faster than RabbitMQ's statistics follow."""
    clients = []
    for _ in range(4):
        clients.append(Mqtt(checks.broker.mqtt, "taken/1", clean=False))
        if len(clients) == 1:
            clients[0].subscribe(("t", 1))
            checks.until("a client", "taken/1", state="connected")
    session = checks.until("the last of four that took over", "taken/1", state="connected", port=clients[-1].port)
    # How many of the four a picture was taken of is chance.
    def by_turns(told):
        return 3 <= len(told) <= 7 and told == ["connected", "disconnected"] * (len(told) // 2) + ["connected"]

    told, ok = eventually(lambda: checks.events(session), by_turns)
    checks.check("nobody was connected twice at once", ok, "connected and disconnected by turns", told)
    for client in clients[:-1]:
        client.forget()
    clients[-1].close()
    checks.until("and away", "taken/1", state="disconnected")


def crowd(checks):
    """More than a page of connections, all new and all gone at once."""
    many = Crowd(checks.broker.mqtt, "crowd/", CROWD)

    def there(state):
        def count():
            return sum(held["state"] == state for name, held in checks.sessions().items() if str(name).startswith("crowd/"))
        return count

    seen, ok = eventually(there("connected"), lambda seen: seen == CROWD, within=90)
    checks.check(f"{CROWD} clients, more than a page", ok, CROWD, seen)
    tools.lists_a_crowd(checks, many.ids)
    many.close()
    seen, ok = eventually(there("gone"), lambda seen: seen == CROWD, within=90)
    checks.check("all of them go", ok, CROWD, seen)
    tools.lists_nobody(checks)


def away(checks):
    """The relay is cut off for a minute: nobody is told to have gone, and what happened meanwhile is told once."""
    broker = checks.broker
    stays, goes = (Mqtt(broker.mqtt, client_id, clean=False) for client_id in ("away/stays", "away/goes"))
    for client in (stays, goes):
        client.subscribe(("t", 1))
    staying = checks.until("a client", "away/stays", state="connected")
    checks.until("another client", "away/goes", state="connected")
    checks.way.cut()
    source, ok = eventually(checks.relay.source, lambda seen: seen.get("unreachable_since"))
    checks.check("cut off, the relay says since when and why", ok and source.get("trouble"), "unreachable_since, trouble", source)
    goes.close()
    told, ok = eventually(checks.cloud.service, lambda seen: seen.get("unreachable_since"))
    checks.check("so does the service", ok and told["source"].get("trouble"), "unreachable_since, trouble", told)
    states = {name: held["state"] for name, held in checks.sessions().items() if str(name).startswith("away/")}
    checks.check("nobody is told to have gone", list(states.values()) == ["connected"] * 2, "connected", states)
    age = tools.grows_old(checks, "away/stays", "away/goes")
    checks.way.mend()
    tools.is_young_again(checks, age)
    gone = checks.until("what happened meanwhile is told", "away/goes", state="disconnected")
    checks.happened("once", gone, "connected", "disconnected")
    checks.happened("and nothing of whom nothing happened to", staying, "connected")
    stays.close()


def restart(checks):
    """The broker stops and starts: connections end, what it has on its disk stays."""
    broker = checks.broker
    line = Amqp(broker.amqp, "before", ["orders.work"])
    client = Mqtt(broker.mqtt, "restart/1", clean=False)
    client.subscribe(("devices/+/events", 1))
    session = checks.until("an MQTT session", "restart/1", state="connected")
    checks.until("an AMQP connection", line.client_id, "amqp", state="connected")
    waiting = Mqtt(broker.mqtt, "waiting/1", clean=False)
    waiting.subscribe(("wait/#", 1))
    waiting.close()
    publisher = Mqtt(broker.mqtt, "publisher", clean=True)
    publisher.publish("wait/1", 3)
    publisher.close()
    checks.until("messages wait", "waiting/1", state="disconnected", queue_depth=3)
    broker.stop()
    source, ok = eventually(checks.relay.source, lambda seen: seen.get("unreachable_since"))
    checks.check("stopped: the relay says so", ok, "unreachable_since", source)
    states = [checks.sessions().get("restart/1", {}).get("state"), checks.sessions("amqp")[line.client_id]["state"]]
    checks.check("stopped: nobody is told to have gone", states == ["connected"] * 2, "connected", states)
    age = tools.grows_old(checks, "restart/1", line.client_id)
    client.forget()
    broker.start()
    tools.is_young_again(checks, age)
    checks.until("started: a session whose client did not come back", "restart/1", state="disconnected",
                 subscriptions=subscriptions(("devices/+/events", 1)))
    checks.until("messages waited on the disk", "waiting/1", state="disconnected", queue_depth=3)
    checks.until("AMQP's connection is gone", line.client_id, "amqp", state="gone")
    again = Mqtt(broker.mqtt, "restart/1", clean=False)
    checks.until("the client is back", "restart/1", state="connected", port=again.port)
    again.close()
    checks.until("and away", "restart/1", state="disconnected")
    checks.happened("its history is whole", session, "connected", "disconnected", "connected", "disconnected")


def vanish(checks):
    """A kept session that its client gives up: a clean connection with the same id removes it."""
    client = Mqtt(checks.broker.mqtt, "vanish/1", clean=False)
    client.subscribe(("t", 1))
    session = checks.until("a kept session", "vanish/1", state="connected")
    client.close()
    checks.until("away", "vanish/1", state="disconnected")
    checks.broker.call("DELETE", "queues/%2F/mqtt-subscription-vanish%2F1qos1")
    checks.until("its queue is deleted: it is gone", "vanish/1", state="gone", active=False)
    checks.happened("its history", session, "connected", "disconnected", "removed")


def report(checks):
    """What the broker says of itself, and which members can be known."""
    about = checks.broker.get("overview")
    told, ok = eventually(checks.cloud.service, lambda told: told.get("source", {}).get("seen"))
    source, figures = told.get("source", {}), told.get("broker", {})
    wanted = ("rabbitmq", about["rabbitmq_version"])
    checks.check("the service says what is watched", ok and (source.get("kind"), source.get("version")) == wanted, wanted, told)
    knows = {"client_id", "user", "remote", "port", "queue_depth", "clean_start", "subscriptions"}
    checks.check("what can be known of its sessions, and what cannot", knows <= set(source["knows"]) and "has_will" not in
                 source["knows"], knows, source)
    checks.check("that nothing is wrong", "trouble" not in source and "unreachable_since" not in told, "no trouble", told)
    checks.check("when its relay was heard", told.get("relay_last_seen"), "relay_last_seen", told)
    nodes = [(node["id"], node["healthy"]) for node in figures.get("nodes", [])]
    checks.check("its node", nodes == [(about["node"], True)], about["node"], figures)
    source = checks.relay.source()
    checks.check("the relay's status says that all is well", source.get("seen") and not source.get("unreachable_since"),
                 "seen", source)


# At once: their clients have nothing to do with each other.
TOGETHER = {
    "a kept session": persistent, "a clean session": clean, "odd ids": odd_ids, "AMQP": amqp, "a kill": killed,
    "a takeover": takeover, "an end": vanish,
}
# After each other: they count everybody, or the broker goes away.
APART = {
    "a crowd": crowd, "broker tools": tools.broker_tools, "the broker itself": report, "the relay cut off": away,
    "the broker restarted": restart,
}
