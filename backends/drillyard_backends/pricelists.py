"""A cloud's price list: the package's file, a refreshed one, or a file of the user instead."""

from __future__ import annotations

import functools
import importlib.resources
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from drillyard.backend.settings.resolve import CONFIG_DIR, prices_file
from drillyard.documents.json_types import JsonObject
from drillyard.errors import ConfigError

T = TypeVar("T", bound=Mapping[str, object])
"""The keys of a list."""
YOURS = "your settings"
"""In place of the date of a list, where the settings give the price."""
OPTIONAL = frozenset({"note", "sources", "by_region", "low_priority_by_region", "skus"})
"""Keys that a list can lack."""


def packaged_table(package: str, name: str) -> Any:
    """Returns the JSON document of a package's file."""
    return json.loads((importlib.resources.files(package) / name).read_text("utf-8"))


class PriceList(Generic[T]):
    """A dated table: the first of the user's own file, the refreshed file, and the package's.

    Args:
        package: The package with ``prices.json``.
        override: Environment variable that may name another file with the same keys.
        kind: Name of the backend, for the refreshed file.
    """

    def __init__(self, package: str, override: str, kind: str) -> None:
        self._package, self._override, self._kind = package, override, kind
        self._read = functools.lru_cache(maxsize=4)(self._read_now)
        self._paths = functools.lru_cache(maxsize=4)(self._paths_now)

    def table(self) -> T:
        """Returns the list in use.

        Raises:
            ConfigError: The file in use is not a price list.
        """
        path, field = self._file()
        if path is None:
            return self._read("", field, 0.0)
        try:
            changed = os.stat(path).st_mtime
        except OSError:
            changed = 0.0
        return self._read(path, field, changed)

    def date(self) -> str:
        """Returns the date of the list in use."""
        return str(self.table()["date"])

    def currency(self) -> str:
        """Returns the currency of the list in use."""
        return str(self.table()["currency"])

    def source(self) -> str:
        """Returns a description of where the list in use comes from."""
        path, _ = self._file()
        return "the package" if path is None else path

    def package_list(self) -> JsonObject:
        """Returns the package's own list as JSON, to be completed with refreshed prices."""
        packaged: JsonObject = packaged_table(self._package, "prices.json")
        return packaged

    def _file(self) -> tuple[str | None, str]:
        # A choice of machines asks thousands of times.
        asked = (os.environ.get(name) for name in (self._override, CONFIG_DIR, "HOME"))
        theirs, refreshed = self._paths(*asked)
        if theirs:
            return theirs, self._override
        command = f"drillyard prices refresh {self._kind}"
        return (refreshed, command) if os.path.isfile(refreshed) else (None, "")

    def _paths_now(self, own: str | None, folder: str | None, home: str | None) -> tuple[str, str]:
        """Two paths that depend on these variables: the user's file, and the refreshed one."""
        return str(Path(own).expanduser()) if own else "", str(prices_file(self._kind))

    def _read_now(self, path: str, field: str, changed: float) -> T:
        ours: T = packaged_table(self._package, "prices.json")
        if not path:
            return ours
        try:
            theirs: T = json.loads(Path(path).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"is not a price list: {error}",
                field=field,
                value=path,
                allowed="a JSON file with the keys of drillyard's own: " + ", ".join(ours),
                hint=None if field == self._override else f"run `{field}` again, or delete it",
            ) from None
        missing = [key for key in ours if key not in theirs and key not in OPTIONAL]
        if missing:
            raise ConfigError(
                f"the price list lacks {', '.join(missing)}",
                field=field,
                value=path,
                hint="copy drillyard's own list and change the numbers",
            )
        return theirs
