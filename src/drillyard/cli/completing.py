"""Shell completion: experiments, runs, files and presets. It reads local stores only.

A shell waits for each answer, so no store on a network is asked; and it shows whatever is printed,
so nothing is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import typer

SUFFIXES = (".yaml", ".yml", ".json", ".json5")
"""Suffixes of experiment files."""
Completer = Callable[[typer.Context, str], list[str]]


def _quiet(find: Callable[[typer.Context, str], Iterable[str]]) -> Completer:
    """Returns a completer that offers nothing where it fails."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            return [text for text in find(ctx, incomplete) if text.startswith(incomplete)]
        except Exception:
            return []

    return complete


def _files(ctx: typer.Context, incomplete: str) -> Iterator[str]:
    """Experiment files, folders, and the names of presets."""
    del ctx
    from drillyard.spec.presets import studies, table

    folder, _, start = incomplete.rpartition("/")
    place = Path(f"{folder}/" if incomplete.startswith("/") else folder or ".").expanduser()
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        word = f"{folder}/{path.name}" if folder or incomplete.startswith("/") else path.name
        if path.name.startswith(".") and not start.startswith("."):
            continue
        if path.is_dir():
            yield f"{word}/"
        elif path.suffix.lower() in SUFFIXES:
            yield word
    yield from (entry["name"] for entry in (*table(), *studies()))


def _experiments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Experiments of the store, newest first."""
    del incomplete
    from drillyard.mailbox import open_store
    from drillyard.runs.locate import experiments

    url = _store(ctx)
    return experiments(open_store(url)) if Path(url).is_dir() else []


def _runs(ctx: typer.Context, incomplete: str) -> Iterator[str]:
    """Experiments; after ``NAME/``, its runs; and the runs of the newest experiment."""
    from drillyard.mailbox import Mailbox, open_store

    known = _experiments(ctx, incomplete)
    name, sign, _ = incomplete.partition("/")
    if not sign:
        yield from known
    for experiment in [name] if sign else known[:1]:
        if experiment in known:
            for run in Mailbox(open_store(_store(ctx)), experiment).runs():
                yield f"{experiment}/{run.run}" if sign else run.run


def _store(ctx: typer.Context) -> str:
    from drillyard.runs.locate import DEFAULT_STORE

    return str(ctx.params.get("store") or os.environ.get("DRILLYARD_STORE") or DEFAULT_STORE)


def _registered(kind: str) -> Completer:
    def find(ctx: typer.Context, incomplete: str) -> Iterable[str]:
        del ctx, incomplete
        from drillyard.registry import names

        return names(kind)

    return _quiet(find)


files = _quiet(_files)
experiments = _quiet(_experiments)
runs = _quiet(_runs)
algorithms = _registered("learners")
simulators = _registered("simulators")
backends = _registered("backends")
