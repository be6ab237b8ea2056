"""The environment of the jobs: an existing one, or one made once for each content."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from pathlib import Path

from drillyard.backend import Order
from drillyard.errors import ControlPlaneError, CorruptObject, UserError
from drillyard.mailbox import open_store
from drillyard.mailbox.store import ObjectMissing
from drillyard_backends.azure import context
from drillyard_backends.azure.errors import Exists, Missing
from drillyard_backends.azure.service import Service
from drillyard_backends.azure.settings import AzureConfig

NAME = "drillyard"
_NAMED = re.compile(r"[A-Za-z0-9][\w.-]*:[\w.-]+\Z")


def version(config: AzureConfig, order: Order) -> str:
    """Returns the version of the environment: a hash of its content.

    Args:
        config: The settings.
        order: With ``recreate`` every lease has one of its own.

    Raises:
        UserError: The folder that it is built of is too large.
    """
    digest = hashlib.sha256()
    for name, data in _content(config):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    content = digest.hexdigest()[:16]
    return f"{content}-{order.lease_id.removeprefix('dy-')}" if config.recreate else content


def named(config: AzureConfig, order: Order) -> str:
    """``NAME:VERSION`` of the environment that jobs use.

    Raises:
        UserError: The settings name none, and nothing to make one of; or a folder that is too
            large.
    """
    if not (config.environment or config.image or config.build):
        raise UserError(
            "nothing says what the nodes' environment is",
            hint="set one of `environment`, `image` and `build` of backends.azure, "
            "or run `drillyard configure azure`",
        )
    return config.environment or f"{NAME}:{version(config, order)}"


def of_lease(config: AzureConfig, order: Order) -> str:
    """Returns ``NAME:VERSION`` of the environment that a lease's jobs use, in every process.

    Raises:
        UserError: The lease has none yet, and the settings name none; see ``named``.
        CorruptObject: The record of it cannot be read.
    """
    return config.environment or _recorded(order) or named(config, order)


def fix(service: Service, config: AzureConfig, order: Order) -> None:
    """Registers the environment of a lease, and records it for all jobs of the lease.

    The files that it is made of may change while the lease lives: a version that is computed
    again would be one that was never registered.

    Raises:
        Missing: A named environment does not exist.
        UserError: It is refused.
    """
    if config.environment is None and (known := _recorded(order)) is not None:
        with contextlib.suppress(Missing):
            service.environment(*known.split(":"))
            return
    ensured = ensure(service, config, order)
    text = json.dumps({"schema_version": 1, "environment": ensured})
    open_store(order.store_url).put(_key(order), text.encode())


def _key(order: Order) -> str:
    return f"{order.experiment}/leases/{order.lease_id}/environment.json"


def _recorded(order: Order) -> str | None:
    try:
        stored = open_store(order.store_url).get(_key(order))
    except ObjectMissing:
        return None
    try:
        full = str(json.loads(stored)["environment"])
    except (ValueError, KeyError, TypeError):
        full = ""
    if not _NAMED.match(full):
        raise CorruptObject(
            f"{order.store_url}/{_key(order)} does not name an environment",
            hint="delete it, and run the same command again",
        )
    return full


def ensure(service: Service, config: AzureConfig, order: Order) -> str:
    """Registers the environment unless it is there; returns its ``NAME:VERSION``.

    Raises:
        Missing: A named one is not there.
        UserError: It is refused.
    """
    full = named(config, order)
    name, _, number = full.partition(":")
    try:
        service.environment(name, number)
        return full
    except Missing:
        if config.environment is not None:
            raise
    try:
        _register(service, config, name, number)
    except (Exists, UserError) as error:
        # The words of such a refusal differ. What is there now was made of the same content, by
        # a racer of ours: that is what its version says.
        try:
            service.environment(name, number)
        except Missing:
            if isinstance(error, UserError):
                raise error from None
            raise ControlPlaneError(
                f"environment {name}:{number} is there, and cannot be read yet: {error}",
                hint="try again",
            ) from error
    return full


def _register(service: Service, config: AzureConfig, name: str, number: str) -> None:
    tags = {"drillyard": "environment"}
    if config.build is not None:
        service.build_environment(name, number, Path(config.build).expanduser(), tags)
        return
    properties: dict[str, object] = {"image": config.image, "osType": "Linux", "tags": tags}
    if config.conda is not None:
        properties["condaFile"] = Path(config.conda).expanduser().read_text(encoding="utf-8")
    service.make_environment(name, number, properties)


def _content(config: AzureConfig) -> list[tuple[str, bytes]]:
    if config.build is not None:
        root = Path(config.build).expanduser()
        context.check(root)
        return [(name, path.read_bytes()) for name, path in sorted(context.files(root))]
    content = [("image", (config.image or "").encode())]
    if config.conda is not None:
        content.append(("conda", Path(config.conda).expanduser().read_bytes()))
    return content
