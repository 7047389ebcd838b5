"""Our programs, built."""

import json
import subprocess
import sys


def build(package, what):
    """The programs of a package, by name; `what` is cargo's flag for which."""
    done = subprocess.run(["cargo", "build", "--quiet", "--locked", "--package", package, what, "--message-format", "json"],
                          text=True, stdout=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"interop: {package} could not be built")
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    return {message["target"]["name"]: message["executable"] for message in messages if message.get("executable")}
