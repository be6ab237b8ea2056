"""Finds the store and the mailbox of an experiment."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from drillyard.errors import ConfigError, NotFound, PackagesMissing

if TYPE_CHECKING:
    from drillyard.mailbox import Mailbox, Store
    from drillyard.spec import ExperimentSpec
    from drillyard.spec.load import Loaded

DEFAULT_STORE = "./drillyard-runs"
ANOTHER_STORE = "run an experiment first, or name the store with --store"
"""What to do where there is no store."""
_RUN = re.compile(r"t\d+-s\d+")
_EXTRAS = {"gs": "gcs", "az": "blob", "sftp": "ssh"}
"""Which extra brings the packages for a scheme of stores."""


def store_url(store: str | None, spec: ExperimentSpec | None = None) -> str:
    """The store's URL: the option, DRILLYARD_STORE, the backend's own, or ``./drillyard-runs``.

    Args:
        store: ``--store``.
        spec: The experiment, where it is known. Machines of some backends cannot reach a folder of
            this machine; such a backend has a store of its own.

    Raises:
        ConfigError: The URL is dangerous, or its scheme is unknown.
        PluginError: The packages for its scheme are not installed.
    """
    from drillyard.spec.addresses import check_store_url
    from drillyard.system.optional_packages import must_have

    given = store or os.environ.get("DRILLYARD_STORE")
    url = given or (spec and _backend_store(spec)) or DEFAULT_STORE
    try:
        check_store_url(url)
    except ConfigError as error:
        source = "--store" if store else "DRILLYARD_STORE"
        file = source if given else f"store of backend {spec.where}" if spec else None
        raise error.but(file=file) from error.__cause__
    scheme = url.partition("://")[0]
    must_have(_EXTRAS.get(scheme, ""), f"a store at {scheme}://")
    return url


def store_of(loaded: Loaded, store: str | None = None) -> str:
    """``store_url`` of an experiment; what it refuses has the line of the file.

    Args:
        loaded: The experiment.
        store: The user's choice, from ``--store``.
    """
    try:
        return store_url(store, loaded.spec)
    except ConfigError as error:
        if error.field is None:
            raise
        raise loaded.locate(error) from error.__cause__


def _backend_store(spec: ExperimentSpec) -> str | None:
    from drillyard.backend import ProvidesStore, open_backend
    from drillyard.registry import load

    places = [text for child in spec.children for text in child.places]
    for text in dict.fromkeys([*spec.places, *places]):  # stages share one store
        kind = text.partition("/")[0]
        if isinstance(load("backends", kind), ProvidesStore):  # no other one is opened
            try:
                backend = open_backend(text, dict(spec.backends.get(kind, {})))
            except PackagesMissing as error:
                # Another store would be another mailbox, so this place is not simply left out.
                raise ConfigError(
                    error.message,
                    field=f"backends.{kind}",
                    allowed="backends whose packages are installed: the mailbox is in the store "
                    f"of {text}",
                    hint=f"{error.hint}; or name another store: --store",
                ) from error
            if isinstance(backend, ProvidesStore):
                return backend.store_url()
    return None


def experiments(store: Store) -> list[str]:
    """Names of the experiments in a store, newest first."""
    from drillyard.mailbox.store import folders

    names = []
    for name in folders(store):
        info = store.stat(f"{name}/experiment.json")
        if info is not None:
            names.append((info.updated_at, name))
    return [name for _, name in sorted(names, reverse=True)]


def split_place(name: str | None, store: str | None) -> tuple[str | None, str | None]:
    """Splits the URL or the folder of an experiment into (experiment, store).

    Args:
        name: What the user typed: a name, ``gs://bucket/prefix/name`` or ``./folder/name``.
        store: ``--store``; this may also be the URL of an experiment.
    """
    place = name if name is not None and ("://" in name or os.sep in name) else None
    if place is None and name is None:
        place = store or os.environ.get("DRILLYARD_STORE")
    if place is None:
        return name, store
    head, _, tail = place.rstrip("/").rpartition("/")
    if not tail or head.endswith(":/") or not _is_experiment(head, tail):
        # Then it is a store. If it is not, opening it raises the error.
        return (None, place) if name is not None else (None, store)
    return tail, head


def _is_experiment(url: str, name: str) -> bool:
    from drillyard.errors import DrillyardError
    from drillyard.mailbox import open_store

    if "://" not in url and not (Path(url) / name).is_dir():
        return False
    try:
        return open_store(store_url(url)).stat(f"{name}/experiment.json") is not None
    except DrillyardError:
        return False


def open_mailbox(name: str | None, store: str | None = None) -> Mailbox:
    """The mailbox of an existing experiment.

    Args:
        name: Its name, or its URL (``gs://bucket/name``); None: the newest experiment.
        store: ``--store``.

    Raises:
        NotFound: No such experiment; the hint has similar names.
    """
    from drillyard.errors import nearest
    from drillyard.mailbox import Mailbox, open_store

    text, given = name, store
    name, store = split_place(name, store)
    url = store_url(store)
    if "://" not in url and not Path(url).is_dir():
        head, _, tail = (text or "").rpartition("/")
        if head and "/" not in head and _is_experiment(store_url(given), head):
            raise NotFound(
                f"no trial or run {tail!r} in {head!r}",
                hint=f"a trial is {head}/t0001, a run {head}/t0001-s1; see "
                f"`drillyard list runs {head}`",
            )
        # Reading must not create the folder.
        raise NotFound(f"no store at {url}", hint=ANOTHER_STORE)
    opened = open_store(url)
    if name is not None and opened.stat(f"{name}/experiment.json") is not None:
        return Mailbox(opened, name)
    known = experiments(opened)
    if name is None:
        if not known:
            raise NotFound(f"no experiments in {url}", hint="drillyard run FILE creates one")
        return Mailbox(opened, known[0])
    raise NotFound(f"no experiment {name!r} in {url}", hint=nearest(name, known))


def find_runs(what: str | None, store: str | None) -> tuple[Mailbox, list[str]]:
    """The experiment and the runs that a name refers to.

    Raises:
        NotFound: Neither an experiment nor a run, or a run of several experiments.
    """
    if what is not None and ("://" in what or Path(what).is_dir()):
        head, _, run = what.rpartition("/")
        if _RUN.fullmatch(run):
            return _one_run(head, run, store)
        what, store = split_place(what, store)
    name, _, run = (what or "").partition("/")
    if run:
        return _one_run(name, run, store)
    mailbox = open_mailbox(None, store)
    if what is not None:
        known = experiments(mailbox.store)
        if what not in known and _RUN.fullmatch(what):
            return _one_run(_having(mailbox.store, known, what), what, store)
        mailbox = open_mailbox(what, store)
    return mailbox, [r.run for r in mailbox.runs()]


def _one_run(name: str, run: str, store: str | None) -> tuple[Mailbox, list[str]]:
    mailbox = open_mailbox(name, store)
    return mailbox, [mailbox.run(run).run]


def _having(store: Store, names: list[str], run: str) -> str:
    """The experiment that has a run."""
    path = f"runs/{run}/run.json"
    having = [name for name in names if store.stat(f"{name}/{path}") is not None]
    if len(having) == 1:
        return having[0]
    if having:
        choices = ", ".join(f"{name}/{run}" for name in having)
        raise NotFound(f"several experiments have a run {run}", hint=f"say which: {choices}")
    raise NotFound(f"no run {run!r} in {store.url}", hint="see `drillyard status`")
