"""Which tracking server an experiment is mirrored to, and how its address is shown."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

AUTO = "auto"
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")


def resolve_uri(
    setting: str | None, store_url: str, environ: Mapping[str, str] | None = None
) -> str | None:
    """The tracking URI behind the experiment's ``tracking.mlflow``.

    Args:
        setting: ``auto``, a URI, or None.
        store_url: URL of the mailbox's store.
        environ: Read for MLFLOW_TRACKING_URI; default the process's own.

    Returns:
        ``auto``: MLFLOW_TRACKING_URI, else ``mlflow.db`` in a local store, else None: a bucket
        cannot hold a database. None: tracking is off.
    """
    if setting is None or setting != AUTO:
        return setting or None
    variable = (os.environ if environ is None else environ).get("MLFLOW_TRACKING_URI", "").strip()
    if variable:
        return variable
    folder = local_folder(store_url)
    return None if folder is None else f"sqlite:///{folder / 'mlflow.db'}"


def local_folder(url: str) -> Path | None:
    """The folder behind a store's URL, or None when it is not on a local disk."""
    scheme = urlsplit(url).scheme
    if scheme in ("", "file"):
        return Path(unquote(urlsplit(url).path) if scheme else url).expanduser().resolve()
    return None


def beside_store(folder: str, store_url: str) -> Path:
    """A folder of results; a relative one counts from the folder that contains a local store.

    Args:
        folder: As the experiment's file names it.
        store_url: URL of the mailbox's store; with a bucket the working directory counts.
    """
    store = local_folder(store_url)
    return ((Path.cwd() if store is None else store.parent) / Path(folder).expanduser()).resolve()


def sqlite_file(uri: str) -> Path | None:
    """The database file of a ``sqlite:`` URI, or None for other servers."""
    if not uri.startswith("sqlite"):
        return None
    _, _, path = uri.partition(":///")
    path = path.split("?", 1)[0]
    return Path(path).absolute() if path and path != ":memory:" else None


def is_azure(uri: str) -> bool:
    """True for the MLflow of an Azure ML workspace.

    It has the API of any other server, but stores files only for Microsoft's client, and its users
    chart three curves under other names.
    """
    return uri.startswith("azureml:")


def mask(text: str) -> str:
    """The text with the user and password of every URL in it hidden."""
    return _USERINFO.sub("***@", text)


def digest(uri: str) -> str:
    """A short name of a server, safe in a key; the same for the same address."""
    place = mask(uri).rstrip("/")
    return hashlib.sha256(place.encode()).hexdigest()[:12]
