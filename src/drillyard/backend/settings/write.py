"""Writes ``~/.drillyard/config.yaml``: changes only the given settings, readable by its owner."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

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
from drillyard.documents.json_types import Json
from drillyard.documents.yaml_safe import typed
from drillyard.errors import ConfigError, ConfigErrors, nearest
from drillyard.system.files import PRIVATE, write_file


def validated(kind: str, name: str, text: str) -> Json:
    """Returns typed text as the value of a setting.

    Args:
        kind: The backend.
        name: The setting.
        text: The text; lists and mappings as YAML or JSON.

    Raises:
        ConfigError: No such setting, a secret in plain text, or an invalid value.
    """
    fields = fields_of(kind)
    field = f"backends.{kind}.{name}"
    if name not in fields:
        raise ConfigError(
            "no such setting",
            field=field,
            allowed=", ".join(fields) or "none",
            hint=nearest(name, list(fields)),
        )
    if is_secret(name, fields):
        if not is_reference(text):
            raise ConfigError(
                "a secret must not be written into a file",
                field=field,
                value="***",
                allowed=REFERENCE_WORDS,
                hint="give a reference to it instead",
            )
        return text
    value: Json = typed(text)
    config = config_of(kind)
    assert config is not None
    problems = []
    candidates: tuple[Json, ...] = (value, text)
    for candidate in candidates:
        problem = _problem(config, name, candidate)
        if problem is None:
            return candidate
        problems.append(problem)
    # A typed list or mapping was meant as one; anything else may have been meant as text.
    raise ConfigError(
        problems[0] if isinstance(value, (list, dict)) else problems[-1],
        field=field,
        value=value,
        allowed=fields[name].description,
        hint=f"a list is written in brackets: --set '{name}=[{text}]'"
        if problems[-1].endswith("valid list") or problems[-1].endswith("valid tuple")
        else "type another value",
    )


def _problem(config: type[BaseModel], name: str, value: Json) -> str | None:
    """Returns pydantic's message about one value; ignores errors of other fields."""
    try:
        config.__pydantic_validator__.validate_assignment(config.model_construct(), name, value)
    except ValidationError as error:
        messages = [e["msg"] for e in error.errors() if e["loc"][:1] == (name,)]
        # The message of a validator of the whole model begins with the field that it blames.
        whole = [e["msg"].removeprefix("Value error, ") for e in error.errors() if not e["loc"]]
        prefix = f"{name}: "
        messages += [text.removeprefix(prefix) for text in whole if text.startswith(prefix)]
        return messages[0] if messages else None
    except Exception:
        # A validator of the whole model may read required settings that are not given yet. They
        # are checked when the backend is opened.
        if not any(field.is_required() for field in config.model_fields.values()):
            raise
    return None


def write(kind: str, values: Mapping[str, Json]) -> Path:
    """Sets values of a backend in the settings file; comments and other values stay.

    Args:
        kind: The backend.
        values: Name -> value; None removes a setting.

    Returns:
        The file. Only its owner can read it.

    Raises:
        ConfigError: The existing file cannot be read, or there are two files.
    """
    path = settings_file() or config_folder() / FILES[0]
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.suffix == ".json":
        text = _json(path, kind, values)
    else:
        text = _yaml(path, kind, values)
    return write_file(path, text, PRIVATE, sync=True)


def _set(tree: Json, kind: str, values: Mapping[str, Json], path: Path) -> None:
    sections = tree.get("backends") if isinstance(tree, dict) else None
    if not isinstance(tree, dict) or not isinstance(sections or {}, dict):
        raise ConfigError("is not a settings file", file=str(path), allowed="backends: {…}")
    if not isinstance(sections, dict) or not sections:
        sections = tree["backends"] = {}
    section = sections.get(kind)
    if not isinstance(section, dict):
        section = sections[kind] = {}
    for name, value in values.items():
        if value is None:
            section.pop(name, None)
        else:
            section[name] = value


def _json(path: Path, kind: str, values: Mapping[str, Json]) -> str:
    from drillyard.documents.files import read_document

    tree: Json = read_document(path, str(path)).value
    _set(tree, kind, values, path)
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def _yaml(path: Path, kind: str, values: Mapping[str, Json]) -> str:
    from ruamel.yaml import YAML

    from drillyard.documents.files import read_document

    keeper = YAML()
    keeper.preserve_quotes = True
    keeper.width = 4096
    tree: Json = None
    if path.is_file():
        try:
            read_document(path, str(path))  # drillyard's rules: no tags, no duplicate keys
        except (ConfigError, ConfigErrors) as error:
            hint = "correct the file first; nothing was written"
            raise error.but(hint=hint) from error.__cause__
        tree = keeper.load(path.read_text(encoding="utf-8"))
    if tree is None:
        tree = keeper.load("# Settings of backends: drillyard configure BACKEND\nbackends:\n")
    _set(tree, kind, values, path)
    out = io.StringIO()
    keeper.dump(tree, out)
    return out.getvalue()
