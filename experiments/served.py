"""The programs of served.yaml, a web application and its benchmark: neither knows drillyard.

The application answers ``/<number>`` with its square, from a table that another stage made.
"""

import json
import os
import random
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SIZE = 1000


def prepare() -> None:
    """Write the table."""
    Path("table.json").write_text(json.dumps([number * number for number in range(SIZE)]))
    sys.stdout.write(f"entries={SIZE}\n")


def serve(table: str) -> None:
    """Answer until SIGTERM."""
    squares = json.loads(Path(table).read_text())

    class Squares(BaseHTTPRequestHandler):
        """Answers with a square, or that it is well."""

        def do_GET(self) -> None:
            word = self.path.strip("/")
            body = "well" if word == "health" else str(squares[int(word)])
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing of each request."""

    address = (os.environ["HOST"], int(os.environ["PORT"]))
    ThreadingHTTPServer(address, Squares).serve_forever()


def measure(url: str) -> None:
    """Ask, check each answer, and say how long it took."""
    source, count = random.Random(int(os.environ["DRILLYARD_SEED"])), int(os.environ["REQUESTS"])
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    wrong, began = 0, time.perf_counter()
    for _ in range(count):
        number = source.randrange(SIZE)
        with opener.open(f"{url}/{number}", timeout=10) as answer:
            wrong += int(answer.read()) != number * number
    sys.stdout.write(f"wrong={wrong}\n")
    sys.stdout.write(f"ms_per_request={1000 * (time.perf_counter() - began) / count:.3f}\n")


{"prepare": prepare, "serve": serve, "measure": measure}[sys.argv[1]](*sys.argv[2:])
