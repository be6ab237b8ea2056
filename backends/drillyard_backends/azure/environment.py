"""The environment of the jobs: an existing one, or one made once for each content."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from drillyard.backend import Order
from drillyard.errors import UserError
from drillyard_backends.azure import context
from drillyard_backends.azure.errors import Exists, Missing
from drillyard_backends.azure.service import Service
from drillyard_backends.azure.settings import AzureConfig

NAME = "drillyard"


def version(config: AzureConfig, order: Order) -> str:
    """Of the environment that is made: a hash of what it is made of.

    Args:
        config: The settings.
        order: With ``recreate`` every lease has one of its own.

    Raises:
        UserError: The folder that it is built of is too large.
    """
    digest = hashlib.sha256()
    for name, data in _content(config):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    found = digest.hexdigest()[:16]
    return f"{found}-{order.lease_id.removeprefix('dy-')}" if config.recreate else found


def named(config: AzureConfig, order: Order) -> str:
    """``NAME:VERSION`` of the environment that jobs use.

    Raises:
        UserError: The settings name none, and nothing to make one of; or a folder that is too
            large.
    """
    if not (config.environment or config.image or config.build):
        raise UserError(
            "nothing says what the nodes' environment is",
            hint="set one of `environment`, `image` and `build` of backends.azure (docs/azure.md)",
        )
    return config.environment or f"{NAME}:{version(config, order)}"


def ensure(service: Service, config: AzureConfig, order: Order) -> bool:
    """Register the environment unless it is there; True when this call did.

    Raises:
        Missing: A named one is not there.
        UserError: It is refused.
    """
    name, _, number = named(config, order).partition(":")
    try:
        service.environment(name, number)
        return False
    except Missing:
        if config.environment is not None:
            raise
    try:
        service.make_environment(_entity(config, name, number))
    except Exists:
        return False  # a racer of ours was faster; the content is the same by its version
    return True


def _entity(config: AzureConfig, name: str, number: str) -> Any:
    from azure.ai.ml.entities import BuildContext, Environment

    tags = {"drillyard": "environment"}
    if config.build is not None:
        folder = str(Path(config.build).expanduser())
        build = BuildContext(path=folder, dockerfile_path="Dockerfile")
        return Environment(name=name, version=number, build=build, tags=tags)
    conda = None if config.conda is None else str(Path(config.conda).expanduser())
    return Environment(name=name, version=number, image=config.image, conda_file=conda, tags=tags)


def _content(config: AzureConfig) -> list[tuple[str, bytes]]:
    if config.build is not None:
        root = Path(config.build).expanduser()
        context.check(root)
        return [(name, path.read_bytes()) for name, path in sorted(context.files(root))]
    found = [("image", (config.image or "").encode())]
    if config.conda is not None:
        found.append(("conda", Path(config.conda).expanduser().read_bytes()))
    return found
