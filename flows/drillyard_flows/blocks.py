"""Settings of backends under a name, kept by Prefect: ``backend: gcp/prod``; and ``secret:NAME``.

Every installed backend has a block type of its own (``LocalBackend``, ``GcpBackend``, …), made
from the very settings model that the backend declares. A setting that a block leaves at its
default counts as not given: the environment and the settings file are asked next.
"""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from pydantic import BaseModel, SecretStr, ValidationError, create_model, model_validator
from pydantic.fields import FieldInfo

from drillyard.backend.settings.resolve import config_of, fields_of, is_secret
from drillyard.errors import ConfigError, ConfigErrors
from drillyard.registry import names
from drillyard_flows.prefect_api import FIELD, guarded, translated
from drillyard_flows.settings import configured_api

_PREFECTS = {"block_type_slug", *Block.model_fields}
"""Keys of a stored block that are Prefect's own."""


class BackendBlock(Block, ABC):
    """What the blocks of all backends share."""

    def given(self) -> tuple[dict[str, Any], set[str]]:
        """The settings that are not at their defaults, in the open, and which are secrets."""
        values: dict[str, Any] = {}
        secrets: set[str] = set()
        dumped = self.model_dump(mode="json", context={"include_secrets": True})
        for name, field in self._settings().items():
            value = getattr(self, name)
            if value == field.get_default(call_default_factory=True):
                continue
            if isinstance(value, SecretStr):
                secrets.add(name)
                values[name] = value.get_secret_value()
            else:
                values[name] = dumped[name]
        return values, secrets

    @classmethod
    def _settings(cls) -> dict[str, FieldInfo]:
        return {n: f for n, f in cls.model_fields.items() if n not in Block.model_fields}


def class_name(kind: str) -> str:
    """``gcp`` -> ``GcpBackend``."""
    return "".join(part.capitalize() for part in re.split(r"[-_]", kind)) + "Backend"


@cache
def block_of(kind: str) -> type[BackendBlock]:
    """The block type of a backend.

    Args:
        kind: An installed backend.

    Raises:
        PluginError: No such backend.
    """
    config = config_of(kind)
    fields: dict[str, Any] = {}
    for name, field in fields_of(kind).items():
        hidden = is_secret(name, fields_of(kind))
        fields[name] = (_secret(field) if hidden else field.annotation, field)
    validators: dict[str, Any] = {"checked": model_validator(mode="before")(_checked(config))}
    made: type[BackendBlock] = create_model(
        class_name(kind),
        __base__=BackendBlock,
        __module__=__name__,
        __doc__=f"Settings of the backend {kind} under a name; in an experiment: "
        f"`backend: {kind}/NAME`.",
        __validators__=validators,
        **fields,
    )
    made._block_type_name = f"drillyard {kind}"
    made._block_type_slug = f"drillyard-{kind}"
    made._logo_url = None
    return made


def _secret(field: FieldInfo) -> Any:
    return SecretStr if field.is_required() else SecretStr | None


def _checked(config: type[BaseModel] | None) -> Any:
    """A validator that holds what is given against the backend's own model, all rules of it."""

    def check(cls: type[BackendBlock], values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = {n: v for n, v in values.items() if n not in _PREFECTS}
        if config is not None:
            config.model_validate(given)  # an unknown name is refused by it, too
        elif given:
            raise ValueError(f"this backend has no settings: {', '.join(given)}")
        return values

    return classmethod(check)


def installed() -> dict[str, type[BackendBlock]]:
    """Kind -> block type of every backend that is installed here and can be imported."""
    from drillyard.errors import PluginError

    found = {}
    for kind in names("backends"):
        try:
            found[kind] = block_of(kind)
        except PluginError:
            continue  # `drillyard doctor` says what is wrong with it
    return found


def __getattr__(name: str) -> type[BackendBlock]:
    """``from drillyard_flows.blocks import GcpBackend``."""
    for kind in names("backends"):
        if class_name(kind) == name:
            return block_of(kind)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """For ``prefect block register -m drillyard_flows.blocks``, which lists the module."""
    return [*globals(), *(class_name(kind) for kind in installed())]


class PrefectBlocks:
    """Implements ``drillyard.backend.settings.references.Blocks`` with blocks of Prefect.

    Raises:
        ConfigError: There is no server that keeps anything, or anybody can read what it keeps.
    """

    def __init__(self) -> None:
        url = configured_api()
        if url is None:
            # Prefect would start one for this moment, and keep a secret where nobody looks for it.
            raise ConfigError(
                "there is no Prefect server that keeps blocks",
                field=FIELD,
                allowed="the address of a server that keeps running",
                hint="drillyard up starts one; or without a block: drillyard configure BACKEND, "
                "env:NAME, file:PATH",
            )
        guarded(url)

    def settings(self, kind: str, name: str) -> tuple[dict[str, Any], set[str]]:
        """See ``Blocks.settings``."""
        found: BackendBlock = _loaded(
            block_of(kind),
            name,
            f"backend {kind}/{name}",
            f"drillyard configure {kind} --block {name}, or make it in Prefect's UI",
        )
        return found.given()

    def secret(self, name: str) -> str:
        """See ``Blocks.secret``."""
        found = _loaded(Secret, name, f"secret:{name}", "make it in Prefect's UI: Blocks, Secret")
        return str(found.get())

    def save(self, kind: str, name: str, values: Mapping[str, Any]) -> str:
        """See ``Blocks.save``."""
        block = block_of(kind)
        before: dict[str, Any] = {}
        try:
            with translated():
                before = cast(BackendBlock, block.load(name)).given()[0]
        except ValueError:
            pass  # the first of this name
        merged = {n: v for n, v in {**before, **values}.items() if v is not None}
        try:
            made = block(**merged)
        except ValidationError as error:
            problems = [_problem(kind, one) for one in error.errors(include_input=False)]
            raise (problems[0] if len(problems) == 1 else ConfigErrors(problems)) from None
        try:
            with translated():
                made.save(name, overwrite=True)
        except ValueError:
            raise ConfigError(
                "is no name of a block",
                field="--block",
                value=name,
                allowed="letters, digits and dashes",
                hint="--block prod",
            ) from None
        return f"{kind}/{name}"


def _problem(kind: str, error: Any) -> ConfigError:
    field = ".".join(str(part) for part in error["loc"])
    return ConfigError(
        error["msg"], field=f"backends.{kind}.{field}", hint=f"drillyard configure {kind} --show"
    )


def _loaded(kind: Any, name: str, shown: str, hint: str) -> Any:
    try:
        with translated():
            return kind.load(name)
    except ValueError:  # what Prefect says of a block that is not there
        raise ConfigError(
            f"Prefect has no {kind._block_type_slug or 'secret'} block {name!r}",
            value=shown,
            hint=hint,
        ) from None
