"""References: what a setting says instead of a value, and where the value is found.

``env:NAME`` and ``file:PATH`` are on this machine; ``secret:NAME`` is a Prefect secret block. A
secret is kept as one everywhere, and looked up only when it is used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

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
    """Where named settings and secrets are kept; registered as ``drillyard.blocks``."""

    def settings(self, kind: str, name: str) -> tuple[dict[str, Any], set[str]]:
        """Settings of a backend saved under a name, and which of them are secrets.

        Raises:
            ConfigError: No such block, or one of another backend.
        """

    def secret(self, name: str) -> str:
        """A secret, looked up now.

        Raises:
            ConfigError: No such secret.
        """

    def save(self, kind: str, name: str, values: Mapping[str, Any]) -> str:
        """Keep settings of a backend under a name, over those kept there; None takes one out.

        Returns:
            What an experiment writes behind ``backend:``.

        Raises:
            ConfigError: A value that the backend refuses, or a name that cannot be one.
            ControlPlaneError: Who keeps them does not answer.
        """


def is_reference(value: Any) -> bool:
    """True for a text that says where a value is found, and for none."""
    return value is None or (isinstance(value, str) and bool(_REFERENCE.match(value)))


def reveal(value: Any, shown: str, *, secret: bool) -> Any:
    """A setting with its reference looked up.

    Args:
        value: As it was resolved.
        shown: The setting's name, for messages.
        secret: Its short references (``env:NAME``) count, and what they give is kept out of logs.

    Raises:
        ConfigError: Nothing is there.
    """
    if isinstance(value, dict):
        return {k: reveal(v, f"{shown}.{k}", secret=is_secret_key(k)) for k, v in value.items()}
    found = _REFERENCE.match(value) if isinstance(value, str) else None
    if found is None or not (secret or found["kind1"]):
        return value
    kind, name = found["kind1"] or found["kind2"], found["name1"] or found["name2"]
    text = _look_up(kind, name.strip(), shown)
    if secret:
        register_secret(text)
    return text


def _look_up(kind: str, name: str, shown: str) -> str:
    if kind == "env":
        text = os.environ.get(name)
        if text is None:
            raise ConfigError(
                f"the environment has no variable {name}",
                field=shown,
                value=f"env:{name}",
                hint=f"export {name}=…",
            )
        return text
    if kind == "file":
        path = Path(name).expanduser()
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is no text"
            raise ConfigError(
                f"cannot read the file: {reason}",
                field=shown,
                value=f"file:{name}",
                hint="write the secret into it, and chmod 600 it",
            ) from None
    keeper = blocks(shown)
    if kind == "secret":
        return keeper.secret(name)
    block, _, setting = name.partition("#")
    backend, _, block_name = block.partition("/")
    return str(keeper.settings(backend, block_name)[0].get(setting, ""))


def blocks(shown: str) -> Blocks:
    """Who keeps named settings and secrets.

    Raises:
        ConfigError: Nobody does here.
    """
    known = names("blocks")
    if not known:
        raise ConfigError(
            "Prefect is not installed here",
            field=shown,
            hint=f"{install('control')}, or use env: or file:",
        )
    try:
        return cast(Blocks, load("blocks", known[0])())
    except PluginError as error:
        raise ConfigError(
            str(error).partition("\n")[0],
            field=shown,
            hint=f"{install('control')}, or use env: or file:",
        ) from error
