"""References: what a setting names instead of a value, and how the value is looked up.

``env:NAME`` and ``file:PATH`` are on this machine; ``secret:NAME`` is a Prefect secret block.
drillyard keeps a secret as a reference everywhere and looks it up only when it is used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import ConfigError, PluginError
from drillyard.registry import load, names
from drillyard.system.optional_packages import install
from drillyard.system.redaction import is_secret_key, register_secret

REFERENCE_WORDS = "env:NAME, file:PATH, or secret:NAME (a Prefect secret block)"
_REFERENCE = re.compile(
    r"(?:\$\{(?P<kind1>env|file):(?P<name1>[^}]+)\}"
    r"|(?P<kind2>env|file|secret|block):(?P<name2>\S.*))\Z"
)


class Blocks(Protocol):
    """A place for named settings and secrets; registered as ``drillyard.blocks``."""

    def settings(self, kind: str, name: str) -> tuple[JsonObject, set[str]]:
        """Returns the settings of a backend saved under a name, and which of them are secrets.

        Raises:
            ConfigError: There is no such block, or it belongs to another backend.
        """

    def secret(self, name: str) -> str:
        """Looks a secret up now.

        Raises:
            ConfigError: No such secret.
        """

    def save(self, kind: str, name: str, values: Mapping[str, Json]) -> str:
        """Saves settings of a backend under a name, over the existing ones; None removes one.

        Returns:
            The value for ``backend:`` in an experiment.

        Raises:
            ConfigError: The backend refuses a value, or the name is not valid.
            ControlPlaneError: The server that keeps them does not answer.
        """


def is_reference(value: Json) -> bool:
    """Returns True for a text that is a reference, and for None."""
    return value is None or (isinstance(value, str) and bool(_REFERENCE.match(value)))


def reveal(value: Json, field: str, *, secret: bool) -> Json:
    """Returns a setting with its reference looked up.

    Args:
        value: The resolved value.
        field: Name of the setting, for messages.
        secret: True if short references (``env:NAME``) count. Their values are kept out of logs.

    Raises:
        ConfigError: The reference leads nowhere.
    """
    if isinstance(value, dict):
        return {k: reveal(v, f"{field}.{k}", secret=is_secret_key(k)) for k, v in value.items()}
    match = _REFERENCE.match(value) if isinstance(value, str) else None
    if match is None or not (secret or match["kind1"]):
        return value
    kind, name = match["kind1"] or match["kind2"], match["name1"] or match["name2"]
    text = _look_up(kind, name.strip(), field)
    if secret:
        register_secret(text)
    return text


def _look_up(kind: str, name: str, field: str) -> str:
    if kind == "env":
        text = os.environ.get(name)
        if text is None:
            raise ConfigError(
                f"the environment has no variable {name}",
                field=field,
                value=f"env:{name}",
                hint=f"export {name}=…",
            )
        return text
    if kind == "file":
        path = Path(name).expanduser()
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise ConfigError(
                f"cannot read the file: {reason}",
                field=field,
                value=f"file:{name}",
                hint="write the secret into it, and chmod 600 it",
            ) from None
    keeper = blocks(field)
    if kind == "secret":
        return keeper.secret(name)
    block, _, setting = name.partition("#")
    backend, _, block_name = block.partition("/")
    return str(keeper.settings(backend, block_name)[0].get(setting, ""))


def blocks(field: str) -> Blocks:
    """Returns the place of named settings and secrets.

    Raises:
        ConfigError: There is none here.
    """
    known = names("blocks")
    if not known:
        raise ConfigError(
            "Prefect is not installed here",
            field=field,
            hint=f"{install('control')}, or use env: or file:",
        )
    try:
        keeper: Blocks = load("blocks", known[0])()
    except PluginError as error:
        raise ConfigError(
            str(error).partition("\n")[0],
            field=field,
            hint=f"{install('control')}, or use env: or file:",
        ) from error
    return keeper
