"""A simulator as a process of its own, with faults on demand: what `external_process` speaks to.

    python external_world.py [--http] [fault [step]]

``once-<fault>``: only where the file ``$FAULTS`` does not exist yet, which it then makes.
"""

import json
import os
import signal
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

over_http = "--http" in sys.argv
if over_http:
    sys.argv.remove("--http")
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
    if kind == "fails":
        raise RuntimeError("the valve fell off")
    if kind == "babbles":
        say("what is JSON?")
    if kind == "half":
        connection.sendall(b'{"states"')
        os._exit(0)
    if kind == "refuses":
        say(json.dumps({"error": "valve stuck"}))


class World:
    """Adds what it is pushed by."""

    def __init__(self) -> None:
        self.x, self.steps = 0.0, 0

    def hear(self, message: dict, say) -> None:
        if message["type"] == "Idle":
            say("{}")
            return
        if message["type"] == "EpisodeStart":
            self.x, self.steps = float(message["config"].get("x", message["seed"] % 10)), 0
        else:
            self.x, self.steps = self.x + message["actions"]["push"], self.steps + 1
        kind = fault.removeprefix("once-")
        if kind and self.steps == at and due():
            if kind == "forgets":
                say(json.dumps({"states": {}}))
            elif kind == "nan":
                say(json.dumps({"states": {"x": float("nan")}}))
            else:
                break_down(kind, say)
            return
        say(
            json.dumps(
                {
                    "states": {"x": self.x, "pid": os.getpid(), "steps": self.steps},
                    "terminated": abs(self.x) > 20,
                    "truncated": self.steps >= 10,
                }
            )
        )


def main() -> None:
    if fault == "never-comes":
        time.sleep(3600)
    if fault == "dies-at-once":
        sys.exit("no licence")
    lines = connection.makefile("r")

    def say(text: str) -> None:
        connection.sendall(text.encode() + b"\n")

    say(json.dumps({"token": os.environ["DRILLYARD_TOKEN"]}))
    world = World()
    for line in lines:
        world.hear(json.loads(line), say)


class Handler(BaseHTTPRequestHandler):
    world = World()
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        known = self.headers["Authorization"] == f"Bearer {os.environ['DRILLYARD_TOKEN']}"
        try:
            if known:
                self.world.hear(json.loads(body), lambda text: self.answer(200, text))
            else:
                self.answer(401, "{}")
        except RuntimeError as error:
            self.answer(500, str(error))

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


def connected() -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(os.environ["DRILLYARD_PORT"])))


if __name__ == "__main__":
    if over_http:
        from socketserver import ThreadingMixIn

        class Server(ThreadingMixIn, HTTPServer):
            daemon_threads = True

        Server(("127.0.0.1", int(os.environ["DRILLYARD_PORT"])), Handler).serve_forever()
    if fault == "wrong-token":
        stranger = connected()
        stranger.sendall(b'{"token": "guess"}\n')
    if fault not in ("never-comes", "dies-at-once"):
        connection = connected()
    main()
