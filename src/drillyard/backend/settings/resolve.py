"""Settings of a backend: one order of precedence for all, and the source of each value.

    1. command line    --set backends.gcp.project=x        merged by ``spec.load`` into the
    2. globals         {backends: {gcp: {project: x}}}     experiment's ``backends:`` section
    3. experiment      backends: {gcp: {project: x}}
    4. Prefect block   backend: gcp/prod
    5. environment     DRILLYARD_GCP_PROJECT
    6. settings file   ~/.drillyard/config.yaml or .json   (folder: DRILLYARD_CONFIG_DIR)
    7. found here      what ``Config.found_here()`` of the backend reads: Azure ML's config.json
    8. default         of the backend's ``Config``

A secret is kept as a reference everywhere (``env:NAME``, ``file:PATH``, ``secret:NAME`` for a
Prefect secret block) and looked up only when the backend is made.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast, get_args

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from drillyard.backend.capabilities import HasSettings
from drillyard.backend.settings.model import FindsSettings
from drillyard.backend.settings.references import REFERENCE_WORDS, blocks, is_reference, reveal
from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import ConfigError, ConfigErrors, UserError
from drillyard.registry import load
from drillyard.system.redaction import is_secret_key

CONFIG_DIR = "DRILLYARD_CONFIG_DIR"
FILES = ("config.yaml", "config.json")


@dataclass(frozen=True)
class Resolved:
    """Settings of a backend, each with its origin."""

    kind: str
    values: JsonObject
    """The given values, as JSON; secrets are references. Enough for another process."""
    origins: dict[str, str] = field(default_factory=dict)
    """Name -> a description of its source."""

    def revealed(self) -> JsonObject:
        """Returns the values with references looked up, for immediate use.

        Raises:
            ConfigError: A reference leads nowhere. The message names it, never its value.
        """
        fields = fields_of(self.kind)
        return {
            name: reveal(value, f"backends.{self.kind}.{name}", secret=is_secret(name, fields))
            for name, value in self.values.items()
        }


def config_of(kind: str) -> type[BaseModel] | None:
    """Returns the settings model of a backend; None if it declares none.

    Raises:
        PluginError: No such backend.
    """
    factory = load("backends", kind)
    return factory.Config if isinstance(factory, HasSettings) else None


def fields_of(kind: str) -> dict[str, FieldInfo]:
    """Returns the fields of a backend's settings by name."""
    config = config_of(kind)
    return dict(config.model_fields) if config else {}


def is_secret(name: str, fields: Mapping[str, FieldInfo]) -> bool:
    """Returns True for a setting whose value must stay secret."""
    annotation = fields[name].annotation if name in fields else None
    kinds = {annotation, *get_args(annotation)}
    return bool(kinds & {SecretStr, SecretBytes}) or is_secret_key(name)


def environment_name(kind: str, name: str) -> str:
    """Returns the environment variable of a setting: ``DRILLYARD_GCP_PROJECT``."""
    return f"{_prefix(kind)}{name}".upper()


def _prefix(kind: str) -> str:
    config = config_of(kind)
    given = str((config.model_config if config else {}).get("env_prefix", ""))
    return given or f"DRILLYARD_{re.sub(r'[^a-z0-9]', '_', kind.lower())}_"


def resolve(text: str, given: Mapping[str, Json] | None = None) -> Resolved:
    """Returns the settings of a backend, before secrets are looked up.

    Args:
        text: ``gcp``, or ``gcp/prod`` with the name of a Prefect block.
        given: The experiment's ``backends:`` section, with command line and globals merged in.

    Raises:
        ConfigError: All missing required settings in one error, with their help texts.
        ConfigErrors: There are unknown names or unprotected secrets.
        PluginError: No such backend.
    """
    resolved, problems, missing = gather(text, given)
    if problems:
        raise problems[0] if len(problems) == 1 else ConfigErrors(problems)
    if missing:
        raise missing
    return resolved


def gather(
    text: str, given: Mapping[str, Json] | None = None
) -> tuple[Resolved, list[ConfigError], ConfigError | None]:
    """Returns the settings and their errors, where ``resolve`` raises the errors.

    Args:
        text: See ``resolve``.
        given: See ``resolve``.

    Returns:
        (the settings, their errors, the error that names all missing settings or None).

    Raises:
        ConfigError: A Prefect block or the settings file cannot be read.
        PluginError: No such backend.
    """
    kind, _, block = text.partition("/")
    fields = fields_of(kind)
    values: JsonObject = {}
    origins: dict[str, str] = {}
    problems: list[ConfigError] = []
    for origin, layer in _layers(kind, block, given or {}, fields):
        for name, value in layer.items():
            if name in values:
                continue
            problems += _problems(kind, name, value, origin, fields)
            values[name], origins[name] = value, origin
    missing = [n for n, f in fields.items() if f.is_required() and n not in values]
    error = _missing(kind, missing, fields) if missing else None
    return Resolved(kind, values, origins), problems, error


def open_settings(text: str, given: Mapping[str, Json] | None = None) -> JsonObject:
    """Returns the arguments of a backend's constructor: resolved and looked up.

    Raises:
        ConfigError: See ``resolve`` and ``Resolved.revealed``.
    """
    return resolve(text, given).revealed()


def blamed(error: UserError, resolved: Resolved) -> UserError:
    """Returns an error with the source of the refused setting, if that is not the experiment.

    Args:
        error: The error that the backend's constructor raised.
        resolved: The settings that the constructor received.
    """
    if isinstance(error, ConfigErrors):
        return ConfigErrors([_with_source(each, resolved) for each in error.errors])
    return _with_source(error, resolved) if isinstance(error, ConfigError) else error


def _with_source(error: ConfigError, resolved: Resolved) -> ConfigError:
    if error.file is not None:
        return error
    kind, _, name = str(error.field).removeprefix("backends.").partition(".")
    origin = resolved.origins.get(name.partition(".")[0], "experiment")
    if kind == resolved.kind and origin != "experiment":
        return error.but(file=origin)
    return error


def _layers(
    kind: str, block: str, given: Mapping[str, Json], fields: Mapping[str, FieldInfo]
) -> Iterator[tuple[str, JsonObject]]:
    yield "experiment", dict(given)
    if block:
        saved, secrets = blocks(f"backend {kind}/{block}").settings(kind, block)
        yield (
            f"Prefect block {block}",
            {n: f"block:{kind}/{block}#{n}" if n in secrets else v for n, v in saved.items()},
        )
    for name, value in _environment(kind, fields).items():
        yield environment_name(kind, name), {name: value}
    path = settings_file()
    if path is not None:
        yield str(path), _section(path, kind)
    # The settings of a provider's own tools on this machine, if the backend reads them.
    config = config_of(kind)
    if isinstance(config, FindsSettings):
        for origin, found_here in config.found_here().items():
            yield origin, dict(found_here)


def _environment(kind: str, fields: Mapping[str, FieldInfo]) -> JsonObject:
    """Returns the settings in environment variables; of a secret only the variable's name."""
    config = config_of(kind)
    if config is None:
        return {}
    from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

    try:
        source = EnvSettingsSource(
            # It reads nothing of the class that a BaseModel lacks.
            cast(type[BaseSettings], config),
            env_prefix=_prefix(kind),
            case_sensitive=False,
        )
        variables: JsonObject = source()
    except SettingsError as error:
        raise ConfigError(
            f"invalid environment variable: {error}",
            field=f"backends.{kind}",
            hint="lists and mappings in variables are JSON",
        ) from None
    return {
        name: f"env:{environment_name(kind, name)}" if is_secret(name, fields) else value
        for name, value in variables.items()
        if name in fields
    }


def _problems(
    kind: str, name: str, value: Json, origin: str, fields: Mapping[str, FieldInfo]
) -> Iterator[ConfigError]:
    where = None if origin == "experiment" else origin
    if fields and name not in fields:
        yield ConfigError(
            "no such setting", file=where, field=f"backends.{kind}.{name}", keys=fields
        )
    elif is_secret(name, fields) and not is_reference(value):
        yield ConfigError(
            "a secret is written in plain text",
            file=where,
            field=f"backends.{kind}.{name}",
            value="***",
            allowed=REFERENCE_WORDS,
            hint="put it where only you can read it, and change it: it was in a file",
        )


def _missing(kind: str, missing: list[str], fields: Mapping[str, FieldInfo]) -> ConfigError:
    lines = [
        f"  {name}: {fields[name].description or 'required'}"
        f" (backends.{kind}.{name}, or {environment_name(kind, name)})"
        for name in missing
    ]
    several = "setting is" if len(missing) == 1 else "settings are"
    return ConfigError(
        f"{len(missing)} required {several} missing:\n" + "\n".join(lines),
        field=f"backends.{kind}",
        hint=f"drillyard configure {kind} asks for them and saves them in "
        f"{config_folder() / FILES[0]}",
    )


# -- the settings file ----------------------------------------------------------------------------


def config_folder() -> Path:
    """Returns ``~/.drillyard``, or the folder in DRILLYARD_CONFIG_DIR."""
    return Path(os.environ.get(CONFIG_DIR) or Path.home() / ".drillyard").expanduser()


def prices_file(kind: str) -> Path:
    """Returns the file with a backend's refreshed prices; it need not exist."""
    return config_folder() / "prices" / f"{kind}.json"


def settings_file() -> Path | None:
    """Returns the settings file, or None if there is none.

    Raises:
        ConfigError: There are two settings files.
    """
    files = [p for p in (config_folder() / name for name in FILES) if p.is_file()]
    if len(files) > 1:
        raise ConfigError(
            f"there are two settings files: {files[0]} and {files[1]}",
            hint="keep one of them; they are never merged",
        )
    return files[0] if files else None


def _section(path: Path, kind: str) -> JsonObject:
    from drillyard.documents.files import read_document

    document: Json = read_document(path, str(path)).value
    tree = document if document is not None else {}
    sections = tree.get("backends", {}) if isinstance(tree, dict) else None
    if not isinstance(tree, dict) or not isinstance(sections, dict) or set(tree) - {"backends"}:
        raise ConfigError(
            "is not a settings file",
            file=str(path),
            allowed="backends: {<backend>: {<setting>: <value>}}",
            hint=f"drillyard configure {kind} writes it",
        )
    section = sections.get(kind) or {}
    if not isinstance(section, dict):
        raise ConfigError(
            "expected a mapping of settings",
            file=str(path),
            field=f"backends.{kind}",
            hint=f"drillyard configure {kind} writes it",
        )
    return section


def is_private(path: Path) -> bool:
    """Returns True if only its owner can read a file."""
    return not stat.S_IMODE(path.stat().st_mode) & 0o077
