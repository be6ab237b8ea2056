"""Deletes an experiment: intent first, the identity last, and a listing at the end.

Order: ``deleting.json`` (from then on no driver starts), everything else, the drivers' records,
``experiment.json``, and at last ``deleting.json``. A deletion that was interrupted anywhere is
found by ``deleting.json`` and finished by the same command.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from drillyard.archives.activity import activity, must_be_idle
from drillyard.archives.contents import Contents, contents
from drillyard.errors import InfrastructureError, NotFound
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.driver_lock import DELETING, DriverLock, host
from drillyard.mailbox.file import FileStore
from drillyard.mailbox.records import Deleting
from drillyard.runs.locate import open_mailbox, split_place, store_url
from drillyard.system.clock import SYSTEM, Clock
from drillyard.tracking import behind

ROUNDS = 5
"""Listings until nothing is left: a worker that was cut off may still have written something."""
BEAT_S = 8.0


def open_for_deletion(name: str, store: str | None) -> Mailbox:
    """The mailbox of an experiment that exists, or whose deletion was interrupted.

    Args:
        name: Its name or its URL.
        store: ``--store``.

    Raises:
        NotFound: There is neither.
    """
    try:
        return open_mailbox(name, store)
    except NotFound:
        head, _, tail = name.rstrip("/").rpartition("/")
        plain, place = (tail, head) if head else split_place(name, store)
        url = store_url(place)
        if plain is None or ("://" not in url and not Path(url).is_dir()):
            raise
        mailbox = Mailbox(open_store(url), plain)
        if mailbox.store.stat(mailbox.key(DELETING)) is None:
            raise
        return mailbox


def delete(
    mailbox: Mailbox,
    *,
    clock: Clock = SYSTEM,
    on_progress: Callable[[int, int], None] | None = None,
) -> Contents:
    """Delete everything that an experiment has in its store; safe to repeat.

    What other places have stays: MLflow's runs, registered models, copies that were exported.

    Args:
        mailbox: The experiment.
        clock: For the times in the records.
        on_progress: Gets (deleted, all) now and then.

    Returns:
        What was deleted by this call.

    Raises:
        UserError: Something of it may be alive; nothing was deleted.
        InfrastructureError: The store failed, or something appears again: the same call finishes.
    """
    must_be_idle(mailbox, "delete")
    lock = DriverLock(mailbox, clock, deletes=True)
    lock.take(["drillyard", "delete", mailbox.experiment])
    try:
        # A machine could have been rented between the first look and the lock.
        late = [reason for reason in activity(mailbox) if not reason.startswith("its driver")]
        if late:
            must_be_idle(mailbox, "delete")
        everything = contents(mailbox)
        mailbox.create(
            DELETING,
            Deleting(
                by=f"process {os.getpid()} on {host()}",
                objects=len(everything.objects),
                size=everything.size,
                written_at=clock.now(),
            ),
        )
    except BaseException:
        lock.release("nothing was deleted")
        raise
    try:
        _delete_all(mailbox, lock, everything, clock, on_progress)
    finally:
        lock.forget()
    behind.forget_all(mailbox)
    return everything


def _delete_all(
    mailbox: Mailbox,
    lock: DriverLock,
    everything: Contents,
    clock: Clock,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    last = (mailbox.key("driver/"), mailbox.key("experiment.json"), mailbox.key(DELETING))
    done, beaten = 0, clock.monotonic()
    for _ in range(ROUNDS):
        keys = [info.key for info in mailbox.store.list(mailbox.key(""))]
        for key in (k for k in keys if not k.startswith(last)):
            mailbox.store.delete(key)
            done += 1
            if clock.monotonic() - beaten > BEAT_S:
                lock.beat()
                beaten = clock.monotonic()
                if on_progress is not None:
                    on_progress(done, max(done, len(everything.objects)))
        if all(key.startswith(last) for key in keys):
            break
    else:
        raise InfrastructureError(
            f"objects of {mailbox.experiment!r} appear again while they are deleted",
            hint="a process still writes into this folder: stop it, then repeat the command",
        )
    for prefix in last:
        for info in list(mailbox.store.list(prefix)):
            mailbox.store.delete(info.key)
    left = [info.key for info in mailbox.store.list(mailbox.key(""))]
    if left:
        # Without an identity these objects are no experiment, but they must not be forgotten.
        mailbox.create(
            DELETING,
            Deleting(
                by=f"process {os.getpid()}", objects=len(left), size=0, written_at=clock.now()
            ),
        )
        raise InfrastructureError(
            f"{len(left)} objects of {mailbox.experiment!r} are still listed, such as {left[0]}",
            hint="repeat the command",
        )
    _remove_folder(mailbox)


def _remove_folder(mailbox: Mailbox) -> None:
    """Remove the empty folders that a store on this machine keeps; a file of others stays."""
    store = mailbox.store
    if not isinstance(store, FileStore):
        return
    store.sweep(mailbox.experiment)
    top = store.path(mailbox.experiment)
    for folder in sorted((p for p in top.rglob("*") if p.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            folder.rmdir()
    with contextlib.suppress(OSError):
        top.rmdir()
