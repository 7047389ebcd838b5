"""node-coap's client against our server: node_client.js does the checks, and says of each what came of it."""

import json
import os
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
# Where `require` finds what scripts/setup-interop.sh installed.
ENVIRONMENT = os.environ | {"NODE_PATH": str(Path(".tools/interop/node_modules").resolve())}


def checks(group, base):
    command = ["node", str(HERE / "node_client.js"), base]
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    for line in process.stdout:
        group.check(**json.loads(line))
    error = process.stderr.read()
    if process.wait() != 0:
        group.check("to the end", False, " ".join(command), error)
