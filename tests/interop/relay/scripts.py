"""The vendor's own example scripts, as its documentation has them: only host and port are other ones."""

import subprocess
from pathlib import Path

from clients import Libcoap
from node import ENVIRONMENT

HERE = Path(__file__).parent


def script(name, port, folder):
    text = (HERE / f"vendor_{name}.js").read_text()
    for theirs, ours in (("'10.0.1.32'", "'127.0.0.1'"), ("port: 5683", f"port: {port}")):
        if text.count(theirs) != 1:
            raise RuntimeError(f"vendor_{name}.js does not have {theirs} once")
        text = text.replace(theirs, ours)
    path = Path(folder, f"{name}.js")
    path.write_text(text)
    done = subprocess.run(["node", str(path)], text=True, capture_output=True, env=ENVIRONMENT, timeout=20)
    return done.stdout + done.stderr


def checks(group, tap, folder):
    client = Libcoap(tap.base)
    seen = script("single_session", tap.port, folder)
    group.check("session 23, absent", seen == "Session does not exist.\n", "vendor_single_session.js", seen)
    seen = script("history", tap.port, folder)
    group.check("no history yet", seen == "[]\n", "vendor_history.js", seen)
    client.call("POST", "/v1/sessions", {"number": 23})
    seen = script("single_session", tap.port, folder)
    wanted = ("id: 1,", "number: 23,", "partySize: 1,", "goalInSeconds: 300,", "label: null,", "state: 'started'")
    group.check("session 23, present", all(part in seen for part in wanted), "vendor_single_session.js", seen)
    client.call("PUT", "/v1/sessions?number=23", {"action": "page"})
    client.call("PUT", "/v1/sessions?number=23", {"action": "clear"})
    client.call("POST", "/v1/sessions", {"number": 24})
    client.call("DELETE", "/v1/sessions?number=24")
    seen = script("single_session", tap.port, folder)
    group.check("session 23, cleared", seen == "Session does not exist.\n", "vendor_single_session.js", seen)
    seen = script("history", tap.port, folder)
    wanted = ("number: 23,", "clearType: 'STOP'", "number: 24,", "clearType: 'REMOVED'")
    places = [seen.find(part) for part in wanted]
    group.check("the history", -1 not in places and places == sorted(places), "vendor_history.js", seen)
