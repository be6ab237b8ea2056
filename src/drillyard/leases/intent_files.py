"""Files of this machine that name what it has rented: written before anything is asked for."""

from __future__ import annotations

from pathlib import Path

from drillyard.errors import StoreUnavailable
from drillyard.system.files import write_file
from drillyard.system.home import local_home


def intent_path(lease: str, home: Path) -> Path:
    """The file of a lease below the local folder."""
    return home / "intents" / f"{lease}.json"


def forget_intent(lease: str, home: Path | None = None) -> None:
    """Delete this machine's copy of an intent whose lease is known to be gone.

    Args:
        lease: Its id.
        home: The local folder.
    """
    intent_path(lease, home or local_home()).unlink(missing_ok=True)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all; it is on the disk when this returns.

    Raises:
        StoreUnavailable: It cannot be written, so that nothing may be rented.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_file(path, data, sync=True)
    except OSError as error:
        raise StoreUnavailable(
            f"cannot write down what is about to be rented: {error}",
            hint=f"is {path.parent} writable? DRILLYARD_HOME moves it",
        ) from error
