"""``drillyard serve``: serves a bundle over HTTP."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from drillyard.system.loopback import is_loopback

TOKEN = "DRILLYARD_SERVE_TOKEN"


BundleArgument = Annotated[
    str,
    typer.Argument(
        help="Bundle's folder, written by `drillyard export`; or models:/NAME@champion."
    ),
]


def serve(
    bundle: BundleArgument,
    host: Annotated[
        str,
        typer.Option(
            "--host", help=f"Address; other than loopback it needs {TOKEN} in the environment."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port; 0 means a free one.")
    ] = 8080,
) -> None:
    """Serve a policy: POST /act, /health, /spec, /metrics, /docs. SIGTERM stops it gracefully."""
    from drillyard.errors import PluginError, misused
    from drillyard.policies import resolve
    from drillyard.system.optional_packages import install

    token = os.environ.get(TOKEN) or None
    if token is None and not is_loopback(host):
        raise misused(
            "other machines can reach this address, and no token is required",
            "--host",
            host,
            allowed="127.0.0.1, or any address with a token",
            hint=f"set {TOKEN} to a secret; clients send it as a bearer token",
        )
    try:
        import uvicorn

        from drillyard.policies.serving import make_app
    except ImportError as error:
        raise PluginError(
            f"serving needs a package that is not installed: {error}", hint=install("serve")
        ) from error
    with resolve.bundle(bundle, None) as folder:
        # A wildcard address has no name of its own; what may reach it needs a token.
        names = None if host in ("0.0.0.0", "::") else [host]
        app = make_app(folder or Path(bundle), token, names)
    config = uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    bound = config.bind_socket()
    # asyncio sets this for its own sockets only. Without it, a response waits 40 ms for the
    # client's acknowledgement of the headers.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with bound:
        # From here on a client's connection waits instead of being refused.
        bound.listen(config.backlog)
        typer.echo(f"serving {bundle} on http://{host}:{bound.getsockname()[1]} (docs: /docs)")
        server.run([bound])
