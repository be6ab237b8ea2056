"""The wheels of ``requirements:``, for machines that have no way to a package index.

They are resolved where the command runs, for the machines' Python and platform, and travel through
the store: each file once, under its hash; then a record of the set; then a copy of it beside the
lease, which tells its machines to install from there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from drillyard.backend import Order
from drillyard.errors import CorruptObject, InfrastructureError, UserError
from drillyard.findings import Finding, passed, problem, warning
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.files import sha256_file
from drillyard.mailbox.records import Record
from drillyard.mailbox.store import ObjectMissing
from drillyard.runs.wheel_resolution import MACHINE, Target, download, resolve

FOLDER = "code/wheels"
log = logging.getLogger(__name__)
THIS_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


class WheelFile(Record):
    """One wheel."""

    name: str
    sha256: str
    size: int

    @property
    def key(self) -> str:
        """Its path inside the experiment."""
        return f"{FOLDER}/{self.sha256}.whl"


class WheelSet(Record):
    """The wheels that some requirements need on a kind of machines."""

    python: str
    machine: str
    files: list[WheelFile]


# -- where the command runs -----------------------------------------------------------------------


def examine(order: Order | None, target: Target | None) -> Iterator[Finding]:
    """Yields whether the requirements of an order can travel; sends nothing.

    Args:
        order: The order.
        target: Its machines; None: they ask a package index themselves.
    """
    if order is None or not order.requirements:
        return
    if target is None:
        text = "machines ask the package index for `requirements:` (python: null)"
        fix = "give them a way to it: a public address or a NAT"
        yield warning("python", text, fix)
        return
    try:
        sizes = resolve(tuple(order.requirements), target)
    except InfrastructureError as error:
        yield warning("requirements", f"not checked: {error.message}", error.hint)
    except UserError as error:
        yield problem("requirements", error.message, error.hint)
    else:
        size = sum(sizes.values()) / 1e6
        what = f"wheels for {target} travel to the machines: {len(sizes)}, {size:.1f} MB"
        yield passed("requirements", what)


def send(order: Order, target: Target | None) -> None:
    """Puts the wheels of an order into its store, unless they are there.

    Args:
        order: The order.
        target: Its machines; None: they ask a package index themselves.

    Raises:
        UserError: A package has no wheel, or the requirements cannot be had together.
        InfrastructureError: The package index or the store does not answer.
    """
    if target is None or not order.requirements:
        return
    mailbox = Mailbox(open_store(order.store_url), order.experiment)
    named = json.dumps([sorted(order.requirements), target.python, target.extras, MACHINE])
    name = f"{FOLDER}/{hashlib.sha256(named.encode()).hexdigest()}.json"
    wheels = mailbox.read(name, WheelSet)
    if wheels is None or any(mailbox.store.stat(mailbox.key(f.key)) is None for f in wheels.files):
        # The same versions again, if the wheels of an earlier command are no longer there.
        lines = tuple(map(_pin, wheels.files)) if wheels and wheels.files else order.requirements
        wheels = _upload(mailbox, tuple(lines), target)
        mailbox.write(name, wheels)  # last: a set without its wheels must not be there
    mailbox.write(_of_lease(order.lease_id), wheels)


def sweep(mailbox: Mailbox) -> None:
    """Deletes the wheels of an experiment that is done; the record of the versions stays."""
    try:
        for info in [*mailbox.store.list(mailbox.key(f"{FOLDER}/"))]:
            if info.key.endswith(".whl"):
                mailbox.store.delete(info.key)
    except InfrastructureError as error:  # it costs cents, and the experiment has succeeded
        log.info("wheels of requirements were not deleted: %s", error)


def _upload(mailbox: Mailbox, lines: tuple[str, ...], target: Target) -> WheelSet:
    files = []
    with tempfile.TemporaryDirectory(prefix="drillyard-wheels-") as folder:
        for path in download(resolve(lines, target), target, Path(folder)):
            size = path.stat().st_size
            file = WheelFile(name=path.name, sha256=sha256_file(path), size=size)
            stored = mailbox.store.stat(mailbox.key(file.key))
            if stored is None or stored.size != size:
                mailbox.store.upload(mailbox.key(file.key), path)
            files.append(file)
    return WheelSet(python=target.python, machine=MACHINE, files=files)


def _pin(file: WheelFile) -> str:
    name, version = file.name.split("-")[:2]
    return f"{name}=={version}"


def wheels_of(mailbox: Mailbox, lease: str) -> WheelSet | None:
    """Returns the wheels that were sent for a lease; None: none were."""
    return mailbox.read(_of_lease(lease), WheelSet)


def _of_lease(lease: str) -> str:
    return f"leases/{lease}/wheels.json"


# -- on a machine ---------------------------------------------------------------------------------


def fetch(mailbox: Mailbox, lease: str, folder: Path) -> Path | None:
    """Fetches the wheels of a lease, and verifies them.

    Args:
        mailbox: Where they are.
        lease: Id of the lease.
        folder: Local folder.

    Returns:
        The folder with the wheels; None if this lease has none, so that pip asks an index.

    Raises:
        UserError: They are for another Python.
        CorruptObject: One is missing or damaged.
    """
    wheels = wheels_of(mailbox, lease)
    if wheels is None:
        return None
    here = (THIS_PYTHON, platform.machine())
    if here != (wheels.python, wheels.machine):
        raise UserError(
            f"the wheels of `requirements:` are for Python {wheels.python} on {wheels.machine}, "
            f"and this machine has Python {here[0]} on {here[1]}",
            hint=f"write `python: '{here[0]}'` in the backend's settings, or use another image",
        )
    for file in wheels.files:
        path = folder / Path(file.name).name
        try:
            mailbox.store.download(mailbox.key(file.key), path)
        except ObjectMissing:
            raise CorruptObject(
                f"{file.name} is missing from {mailbox.store.url}",
                hint="run the same command again",
            ) from None
        if sha256_file(path) != file.sha256:
            raise CorruptObject(f"{file.name} is not what was sent (sha256)")
    return folder
