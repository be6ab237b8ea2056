"""The emulated Azure for tests; skipped where Azurite is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drillyard.errors import UserError
from drillyard.testing.cloud.azure.blobs import find
from drillyard.testing.cloud.handle import AzureEmulator


def needs_azurite() -> pytest.MarkDecorator:
    """Marks a module whose tests need it."""
    try:
        find()
    except UserError as error:
        return pytest.mark.skip(reason=f"{error} ({error.hint})")
    return pytest.mark.skipif(False, reason="")


def opened(folder: Path, **options: object) -> Iterator[AzureEmulator]:
    """An emulator with this process pointing to it, as a fixture's body."""
    patch = pytest.MonkeyPatch()
    with AzureEmulator(folder, **options) as cloud, patch.context() as context:  # type: ignore[arg-type]
        point(context, cloud)
        yield cloud


def point(patch: pytest.MonkeyPatch, cloud: AzureEmulator) -> None:
    """Let this process see the emulated Azure; tokens of another one are forgotten."""
    from drillyard_backends.azure.login import credential

    for name, value in cloud.env.items():
        patch.setenv(name, value)
    credential.cache_clear()
