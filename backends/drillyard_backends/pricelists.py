"""A cloud's price list: a file of the package, or the user's own instead of it."""

from __future__ import annotations

import functools
import importlib.resources
import json
import os
from pathlib import Path
from typing import Any

from drillyard.errors import ConfigError


class PriceList:
    """A dated table.

    Args:
        package: With ``prices.json``.
        override: Environment variable that may name a file of the same form.
    """

    def __init__(self, package: str, override: str) -> None:
        self._package, self._override = package, override
        self._read = functools.lru_cache(maxsize=4)(self._read_now)

    def table(self) -> dict[str, Any]:
        """The list in force.

        Raises:
            ConfigError: The environment names no such list.
        """
        return self._read(os.environ.get(self._override, ""))

    def _read_now(self, path: str) -> dict[str, Any]:
        own = (importlib.resources.files(self._package) / "prices.json").read_text("utf-8")
        ours: dict[str, Any] = json.loads(own)
        if not path:
            return ours
        try:
            theirs = json.loads(Path(path).expanduser().read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"is no price list: {error}",
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
        return dict(theirs)
