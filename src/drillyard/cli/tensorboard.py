"""``drillyard tensorboard``: shows an experiment's curves in TensorBoard, from any store."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drillyard.cli.common import RunArgument, StoreOption

if TYPE_CHECKING:
    from drillyard.mailbox import Mailbox
    from drillyard.tracking.tensorboard_files import Boards

SYNC_S = 10.0
PORT = 6006


def tensorboard(
    what: RunArgument = None,
    store: StoreOption = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="Folder for the copy.")] = None,
    port: Annotated[
        int,
        typer.Option("--port", min=0, max=65535, help="Port; a free one if it is 0 or in use."),
    ] = PORT,
    serve: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Serve the copy, or only write it.")
    ] = True,
) -> None:
    """Keep a local copy of the curves up to date, and show it in TensorBoard."""
    from drillyard.results.formatting import plural
    from drillyard.runs.locate import find_runs
    from drillyard.system.output_files import check_folder, writing
    from drillyard.tracking.tensorboard_files import Boards

    if folder is not None:
        check_folder(folder, "--folder")
    mailbox, runs = find_runs(what, store)
    boards = Boards(mailbox, runs, folder or default_folder(mailbox))
    with writing(boards.folder, "--folder"):
        changed = boards.sync()
    files, of = plural(changed, "new file"), plural(len(runs), "run")
    typer.echo(f"{files} of {of} in {boards.folder}")
    if serve:
        _serve(boards, free_port(port))


def default_folder(mailbox: Mailbox) -> Path:
    """Returns the local folder for the copy, one for each store."""
    from drillyard.system.home import local_home

    digest = hashlib.sha256(mailbox.store.url.encode()).hexdigest()[:10]
    return local_home() / "tensorboard" / digest


def free_port(preferred: int) -> int:
    """Returns the preferred loopback port, or a free one if it is taken."""
    for port in (preferred, 0):
        with contextlib.closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return preferred


def _serve(boards: Boards, port: int) -> None:
    from drillyard.errors import InfrastructureError
    from drillyard.tracking.tensorboard_server import PARENT

    command = [
        sys.executable,
        "-m",
        "drillyard.tracking.tensorboard_server",
        "--logdir",
        str(boards.folder),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--reload_interval",
        "5",
    ]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, PARENT: str(os.getpid())},
    )
    typer.echo(f"TensorBoard: http://127.0.0.1:{port}/ (stop with Ctrl-C)")
    never = threading.Event()
    try:
        while child.poll() is None:
            never.wait(SYNC_S)
            try:
                boards.sync()
            except InfrastructureError as error:
                typer.echo(f"the copy could not be updated: {error}", err=True)
        raise InfrastructureError(
            f"TensorBoard exited with code {child.returncode}",
            hint=f"{sys.executable} -m tensorboard.main --logdir {boards.folder} shows the reason",
        )
    except KeyboardInterrupt:
        typer.echo("ended")
    finally:
        child.terminate()
        child.wait(10.0)
