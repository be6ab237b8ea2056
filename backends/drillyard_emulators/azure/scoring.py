"""The server in a deployment's container: ``python -m drillyard_emulators.azure.scoring``.

Azure ML's own inference server asks a script in the same way: ``init`` once, ``run`` for each
request, with the body as text.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType


def take(path: Path) -> ModuleType:
    """The scoring script, its folder on the path."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Serve until the machine is switched off."""
    parser = argparse.ArgumentParser()
    parser.add_argument("script", type=Path)
    parser.add_argument("port", type=Path, help="the file that tells where it listens")
    given = parser.parse_args()
    script = take(given.script)
    script.init()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            try:
                status, answer = 200, json.dumps(script.run(body)).encode()
            except Exception:
                traceback.print_exc()
                status, answer = 500, b'{"message": "the script failed"}'
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing of each request."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scratch = given.port.with_suffix(".new")
    scratch.write_text(str(server.server_address[1]))
    os.replace(scratch, given.port)
    server.serve_forever()


if __name__ == "__main__":
    main()
