"""``drillyard serve``: a bundle behind HTTP."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from typing import Annotated

import typer

TOKEN = "DRILLYARD_SERVE_TOKEN"


def register(app: typer.Typer) -> None:
    """Join the command line."""
    app.command("serve")(serve)


def serve(
    bundle: Annotated[
        str,
        typer.Argument(
            help="Folder of a bundle, made by `drillyard export`; models:/NAME@champion."
        ),
    ],
    host: Annotated[
        str, typer.Option("--host", help=f"Any but the loopback needs {TOKEN} in the environment.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: a free one.")] = 8080,
) -> None:
    """Serve a policy: POST /act, /health, /spec, /metrics, /docs. Ends gracefully at SIGTERM."""
    from drillyard.errors import ConfigError, PluginError
    from drillyard.policies import resolve
    from drillyard.system.optional_packages import install

    token = os.environ.get(TOKEN) or None
    if token is None and not _is_loopback(host):
        raise ConfigError(
            "is open to others, and nobody would be asked for a token",
            file="command line",
            field="--host",
            value=host,
            allowed="127.0.0.1, or any address with a token",
            hint=f"put a secret into {TOKEN}; requests bring it as a bearer token",
        )
    try:
        import uvicorn

        from drillyard.policies.serving import make_app
    except ImportError as error:
        raise PluginError(
            f"serving needs a package that is not installed: {error}", hint=install("serve")
        ) from error
    with resolve.bundle(bundle, None) as folder:
        app = make_app(folder or Path(bundle), token)
    config = uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    bound = config.bind_socket()
    # asyncio does so for its own sockets only: without it an answer waits 40 ms for the client's
    # acknowledgement of its head.
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with bound:
        typer.echo(f"serving {bundle} on http://{host}:{bound.getsockname()[1]} (docs: /docs)")
        server.run([bound])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
