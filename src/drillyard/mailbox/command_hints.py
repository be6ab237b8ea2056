"""Commands for hints, complete, so that they work when you paste them into a shell."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drillyard.mailbox import Mailbox

DEFAULT_STORE = "./drillyard-runs"


def command(verb: str, mailbox: Mailbox, run: str | None = None) -> str:
    """``drillyard logs cstr/t0001-s1`` in back quotes, for the middle of a sentence."""
    return f"`{bare(verb, mailbox, run)}`"


def bare(verb: str, mailbox: Mailbox, run: str | None = None) -> str:
    """A command to paste into a shell, with ``--store`` where it is needed.

    Args:
        verb: ``logs``, ``status``, ``resume`` …
        mailbox: The experiment.
        run: One of its runs, for verbs that take one.
    """
    name = mailbox.experiment if run is None else f"{mailbox.experiment}/{run}"
    words = ["drillyard", verb, name]
    if not _found_without(mailbox.store.url):
        words += ["--store", mailbox.store.url]
    return shlex.join(words)


def _found_without(url: str) -> bool:
    """True for the store that a command uses without ``--store``."""
    usual = os.environ.get("DRILLYARD_STORE") or DEFAULT_STORE
    if url == usual:
        return True
    if "://" in usual or "://" in url:
        return False
    return Path(usual).absolute() == Path(url).absolute()
