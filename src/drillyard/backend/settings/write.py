"""Writing ``~/.drillyard/config.yaml``: only what was asked changes; its owner alone reads it."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from drillyard.backend.settings.references import REFERENCE_WORDS, is_reference
from drillyard.backend.settings.resolve import (
    FILES,
    config_folder,
    config_of,
    fields_of,
    is_secret,
    settings_file,
)
from drillyard.documents.scalars import typed
from drillyard.errors import ConfigError, ConfigErrors
from drillyard.registry import nearest


def validated(kind: str, name: str, text: str) -> Any:
    """What someone typed, as the value of a setting.

    Args:
        kind: The backend.
        name: The setting.
        text: Typed text; lists and mappings as YAML or JSON.

    Raises:
        ConfigError: No such setting, a secret in the open, or a value that does not fit.
    """
    fields = fields_of(kind)
    shown = f"backends.{kind}.{name}"
    if name not in fields:
        raise ConfigError(
            "no such setting",
            field=shown,
            allowed=", ".join(fields) or "none",
            hint=nearest(name, list(fields)),
        )
    if is_secret(name, fields):
        if not is_reference(text):
            raise ConfigError(
                "a secret is not written into a file",
                field=shown,
                value="***",
                allowed=REFERENCE_WORDS,
                hint="say where it is found instead",
            )
        return text
    value = typed(text)
    config = config_of(kind)
    assert config is not None
    problems = []
    for attempt in (value, text):
        problem = _problem(config, name, attempt)
        if problem is None:
            return attempt
        problems.append(problem)
    # Whoever typed a list or a mapping meant one; all else may have been meant as text.
    told = problems[0] if isinstance(value, (list, dict)) else problems[-1]
    raise ConfigError(
        told,
        field=shown,
        value=value,
        allowed=fields[name].description,
        hint="type another value",
    )


def _problem(config: type[BaseModel], name: str, value: Any) -> str | None:
    """What pydantic says about one value; other fields' faults are none of ours."""
    try:
        config.__pydantic_validator__.validate_assignment(config.model_construct(), name, value)
    except ValidationError as error:
        mine = [e["msg"] for e in error.errors() if e["loc"][:1] == (name,)]
        # A check of the whole model says first which field it blames.
        whole = [e["msg"].removeprefix("Value error, ") for e in error.errors() if not e["loc"]]
        mine += [text.removeprefix(f"{name}: ") for text in whole if text.startswith(f"{name}: ")]
        return mine[0] if mine else None
    except Exception:
        # A check of the whole model may read settings that are required and not given yet. It
        # judges them when the backend is made.
        if not any(field.is_required() for field in config.model_fields.values()):
            raise
    return None


def write(kind: str, values: Mapping[str, Any]) -> Path:
    """Set values of a backend in the settings file; comments and other values stay.

    Args:
        kind: The backend.
        values: Name -> value; None takes a setting out.

    Returns:
        The file, readable by its owner only.

    Raises:
        ConfigError: The file there is cannot be read, or there are two.
    """
    path = settings_file() or config_folder() / FILES[0]
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.suffix == ".json":
        text = _json(path, kind, values)
    else:
        text = _yaml(path, kind, values)
    handle, scratch = tempfile.mkstemp(prefix=".config-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    return path


def _lay(tree: Any, kind: str, values: Mapping[str, Any], path: Path) -> None:
    if not isinstance(tree, dict) or not isinstance(tree.get("backends") or {}, dict):
        raise ConfigError("is no settings file", file=str(path), allowed="backends: {…}")
    if not tree.get("backends"):
        tree["backends"] = {}
    section = tree["backends"].get(kind)
    if not isinstance(section, dict):
        section = tree["backends"][kind] = {}
    for name, value in values.items():
        if value is None:
            section.pop(name, None)
        else:
            section[name] = value


def _json(path: Path, kind: str, values: Mapping[str, Any]) -> str:
    from drillyard.documents.files import read_document

    tree = read_document(path, str(path)).value
    _lay(tree, kind, values, path)
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def _yaml(path: Path, kind: str, values: Mapping[str, Any]) -> str:
    from ruamel.yaml import YAML

    from drillyard.documents.files import read_document

    keeper = YAML()
    keeper.preserve_quotes = True
    keeper.width = 4096
    tree: Any = None
    if path.is_file():
        try:
            read_document(path, str(path))  # our own rules: no tags, no duplicates
        except (ConfigError, ConfigErrors) as error:
            hint = "correct the file first; nothing was written"
            raise error.but(hint=hint) from error.__cause__
        tree = keeper.load(path.read_text(encoding="utf-8"))
    if tree is None:
        tree = keeper.load("# Settings of backends: drillyard configure BACKEND\nbackends: {}\n")
        tree["backends"].fa.set_block_style()
    _lay(tree, kind, values, path)
    out = io.StringIO()
    keeper.dump(tree, out)
    return out.getvalue()
