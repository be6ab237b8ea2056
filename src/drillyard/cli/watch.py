"""``drillyard watch``: serves a page that shows an experiment while it runs."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from drillyard.cli.common import NameArgument, StoreOption


def watch(
    name: NameArgument = None,
    store: StoreOption = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port; 0 means a free one.")
    ] = 0,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve a page that shows an experiment live: curves, trials, machines, log, cost, time left.

    The command needs only the store, so it works on any machine that can read it. It reads only
    while the page is open, and listens on 127.0.0.1. Ctrl-C ends it; the experiment continues.
    """
    from drillyard.report.live.server import LivePages
    from drillyard.runs.locate import open_mailbox
    from drillyard.system.redaction import register_environment

    register_environment()
    mailbox = open_mailbox(name, store)
    mailbox.experiment_record()  # a record that cannot be read is refused here
    ended = threading.Event()
    before = {s: signal.signal(s, lambda *_: ended.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        with LivePages(mailbox.store, port) as pages:
            url = pages.url(mailbox.experiment)
            typer.echo(f"watching {mailbox.experiment} at {url} (Ctrl-C ends this page only)")
            if open_:
                import webbrowser

                if not webbrowser.open(url):
                    typer.echo(f"no browser found; open {url}", err=True)
            while not ended.wait(0.5):  # a wait without an end cannot be interrupted everywhere
                pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    typer.echo(f"stopped watching; {mailbox.experiment} is not affected")
