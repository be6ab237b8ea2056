"""A cloud's price list: a file of the package, or a file of the user instead."""

from __future__ import annotations

import functools
import importlib.resources
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Generic, TypeVar

from drillyard.errors import ConfigError

T = TypeVar("T", bound=Mapping[str, object])
"""The keys of a list."""


class PriceList(Generic[T]):
    """A dated table.

    Args:
        package: The package with ``prices.json``.
        override: Environment variable that may name another file with the same keys.
    """

    def __init__(self, package: str, override: str) -> None:
        self._package, self._override = package, override
        self._read = functools.lru_cache(maxsize=4)(self._read_now)

    def table(self) -> T:
        """Returns the list in use.

        Raises:
            ConfigError: The environment variable does not name a price list.
        """
        return self._read(os.environ.get(self._override, ""))

    def _read_now(self, path: str) -> T:
        text = (importlib.resources.files(self._package) / "prices.json").read_text("utf-8")
        ours: T = json.loads(text)
        if not path:
            return ours
        try:
            theirs: T = json.loads(Path(path).expanduser().read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"is not a price list: {error}",
                field=self._override,
                value=path,
                allowed="a JSON file with the keys of drillyard's own: " + ", ".join(ours),
            ) from None
        missing = [key for key in ours if key not in theirs and key != "note"]
        if missing:
            raise ConfigError(
                f"the price list lacks {', '.join(missing)}",
                field=self._override,
                value=path,
                hint="copy drillyard's own list and change the numbers",
            )
        return theirs
