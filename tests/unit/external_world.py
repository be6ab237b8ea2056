"""A simulator as a process of its own, with faults on demand: what `external_process` speaks to.

    python external_world.py [fault [step]]

``once-<fault>``: only where the file ``$FAULTS`` does not exist yet, which it then makes.
"""

import json
import os
import signal
import socket
import sys
import time

fault = sys.argv[1] if len(sys.argv) > 1 else ""
at = int(sys.argv[2]) if len(sys.argv) > 2 else 3


def due() -> bool:
    if not fault.startswith("once-"):
        return True
    try:
        os.close(os.open(os.environ["FAULTS"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def break_down(kind: str, say) -> None:
    print(f"this is {kind}", flush=True)
    if kind == "dies":
        os._exit(9)
    if kind == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "hangs":
        time.sleep(3600)
    if kind == "babbles":
        say("what is JSON?")
    if kind == "half":
        connection.sendall(b'{"states"')
        os._exit(0)
    if kind == "refuses":
        say(json.dumps({"error": "valve stuck"}))


def main() -> None:
    if fault == "never-comes":
        time.sleep(3600)
    if fault == "dies-at-once":
        sys.exit("no licence")
    lines = connection.makefile("r")

    def say(text: str) -> None:
        connection.sendall(text.encode() + b"\n")

    say(json.dumps({"token": os.environ["DRILLYARD_TOKEN"]}))
    x, steps = 0.0, 0
    for line in lines:
        message = json.loads(line)
        if message["type"] == "Idle":
            say("{}")
            continue
        if message["type"] == "EpisodeStart":
            x, steps = float(message["config"].get("x", message["seed"] % 10)), 0
        else:
            x, steps = x + message["actions"]["push"], steps + 1
        kind = fault.removeprefix("once-")
        if kind and steps == at and due():
            if kind == "forgets":
                say(json.dumps({"states": {}}))
                continue
            if kind == "nan":
                say(json.dumps({"states": {"x": float("nan")}}))
                continue
            break_down(kind, say)
            continue
        say(json.dumps({"states": {"x": x, "pid": os.getpid(), "steps": steps},
                        "terminated": abs(x) > 20, "truncated": steps >= 10}))  # fmt: skip


def connected() -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(os.environ["DRILLYARD_PORT"])))


if __name__ == "__main__":
    if fault == "wrong-token":
        stranger = connected()
        stranger.sendall(b'{"token": "guess"}\n')
    if fault not in ("never-comes", "dies-at-once"):
        connection = connected()
    main()
