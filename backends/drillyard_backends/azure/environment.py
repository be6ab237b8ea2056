"""The environment of the jobs: an existing one, or one made once for each content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from drillyard.backend import Order
from drillyard.errors import ControlPlaneError, UserError
from drillyard_backends.azure import context
from drillyard_backends.azure.errors import Exists, Missing
from drillyard_backends.azure.service import Service
from drillyard_backends.azure.settings import AzureConfig

NAME = "drillyard"


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
            hint="set one of `environment`, `image` and `build` of backends.azure, "
            "or run `drillyard configure azure`",
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
                f"environment {name}:{number} is there, and cannot be read yet", hint="try again"
            ) from error
        return False
    return True


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
    found = [("image", (config.image or "").encode())]
    if config.conda is not None:
        found.append(("conda", Path(config.conda).expanduser().read_bytes()))
    return found
