"""Named settings of backends, stored by Prefect: ``backend: gcp/prod``; and ``secret:NAME``.

Every installed backend has a block type of its own (``LocalBackend``, ``GcpBackend``, …), made
from the very settings model that the backend declares. A setting that a block leaves at its
default counts as not given: the environment and the settings file come next.
"""

from __future__ import annotations

import re
import warnings
from abc import ABC
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Self, TypeVar

from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from pydantic import (
    BaseModel,
    HttpUrl,
    SecretStr,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo

from drillyard.backend.settings.resolve import config_of, fields_of, is_secret
from drillyard.errors import Bug, ConfigError, ConfigErrors, nearest
from drillyard.registry import names
from drillyard_flows.prefect_api import FIELD, guarded, translated
from drillyard_flows.settings import configured_api

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from drillyard.documents.json_types import Json, JsonObject

B = TypeVar("B", bound=Block)
_PICTURES = (
    "https://raw.githubusercontent.com/PrefectHQ/prefect/"
    "420d0d6a78bb6df1fc18bcf188fdad43c1d22ea9/assets/block-logos"
)
"""Those of Prefect's own blocks: without one, its pages show a broken picture."""
_LOGOS = {
    "gcp": "https://cdn.sanity.io/images/3ugk85nk/production/"
    "10424e311932e31c477ac2b9ef3d53cefbaad708-250x250.png",
    "azure": "https://cdn.sanity.io/images/3ugk85nk/production/"
    "54e3fa7e00197a4fbd1d82ed62494cb58d08c96a-250x250.png",
}
_PREFECTS = {"block_type_slug", *Block.model_fields}
"""Keys of a stored block that belong to Prefect."""


class BackendBlock(Block, ABC):
    """Base class of the blocks of all backends.

    Raises:
        ConfigError, ConfigErrors: A value is missing or wrong, whoever gave it: Python, a command,
            or a form of Prefect's UI, which saves what it is given.
    """

    def __init__(self, *args: Any, **values: Any) -> None:
        try:
            super().__init__(*args, **values)
        except ValidationError as error:
            raise _refusal(_problems(type(self), error)) from None

    @classmethod
    def model_validate(cls, obj: Any, **more: Any) -> Self:
        """Raises pydantic's own error, by which Prefect knows that a stored block is not valid."""
        try:
            return super().model_validate(obj, **more)
        except (ConfigError, ConfigErrors) as error:
            raise error.__context__ or error from None

    def given(self) -> tuple[JsonObject, set[str]]:
        """Returns the settings that differ from their defaults, unmasked, and the secret names."""
        values: JsonObject = {}
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
    """Returns the block type of a backend.

    Args:
        kind: An installed backend.

    Raises:
        PluginError: The backend does not exist.
    """
    config = config_of(kind)
    fields: dict[str, Any] = {}
    groups, group = getattr(config, "groups", {}), ""
    for name, field in fields_of(kind).items():
        hidden = is_secret(name, fields_of(kind))
        group = groups.get(name, group)  # Prefect's form has no headings: titles begin with them
        if group:
            title = {"title": f"{group}: {name.replace('_', ' ')}"}
            field = FieldInfo.merge_field_infos(field, json_schema_extra=title)
        fields[name] = (_secret(field) if hidden else field.annotation, field)
    validators: dict[str, Any] = {"checked": model_validator(mode="before")(_checked(config))}
    block: type[BackendBlock] = create_model(
        class_name(kind),
        __base__=BackendBlock,
        __module__=__name__,
        __doc__=f"Settings of the backend {kind} under a name; in an experiment: "
        f"`backend: {kind}/NAME`.",
        __validators__=validators,
        **fields,
    )
    block._block_type_name = f"drillyard {kind}"
    block._block_type_slug = f"drillyard-{kind}"
    block._logo_url = HttpUrl(_LOGOS.get(kind, f"{_PICTURES}/process.png"))
    return block


def _secret(field: FieldInfo) -> Any:
    return SecretStr if field.is_required() else SecretStr | None


def _checked(config: type[BaseModel] | None) -> Any:
    """Returns a validator that applies every rule of the backend's own model."""

    def check(cls: type[BackendBlock], values: Json) -> Json:
        if not isinstance(values, dict):
            return values
        given = {n: v for n, v in values.items() if n not in _PREFECTS}
        if config is not None:
            config.model_validate(given)  # it also refuses unknown names
        elif given:
            raise ValueError(f"this backend has no settings: {', '.join(given)}")
        return values

    return classmethod(check)


def installed() -> dict[str, type[BackendBlock]]:
    """Returns kind -> block type of every installed backend that can be imported."""
    from drillyard.errors import PluginError

    blocks = {}
    for kind in names("backends"):
        try:
            blocks[kind] = block_of(kind)
        except PluginError:
            continue  # `drillyard doctor` reports it
    return blocks


def __getattr__(name: str) -> type[BackendBlock]:
    """Allows ``from drillyard_flows.blocks import GcpBackend``."""
    for kind in names("backends"):
        if class_name(kind) == name:
            return block_of(kind)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists the block types for ``prefect block register -m drillyard_flows.blocks``."""
    return [*globals(), *(class_name(kind) for kind in installed())]


class PrefectBlocks:
    """Implements ``drillyard.backend.settings.references.Blocks`` with blocks of Prefect.

    Raises:
        ConfigError: There is no permanent server, or it is open to the whole network.
    """

    def __init__(self) -> None:
        url = configured_api()
        if url is None:
            # Prefect would start a temporary server and store a secret where it is never found.
            raise ConfigError(
                "there is no Prefect server that stores blocks",
                field=FIELD,
                allowed="the address of a permanent server",
                hint="start one with drillyard up; or use no block: drillyard configure BACKEND, "
                "env:NAME, file:PATH",
            )
        guarded(url)

    def settings(self, kind: str, name: str) -> tuple[JsonObject, set[str]]:
        """See ``Blocks.settings``."""
        block = _load(
            block_of(kind),
            name,
            f"backend {kind}/{name}",
            f"drillyard configure {kind} --block {name}, or create it in Prefect's UI",
        )
        return block.given()

    def secret(self, name: str) -> str:
        """See ``Blocks.secret``."""
        block = _load(Secret, name, f"secret:{name}", "create it in Prefect's UI: Blocks, Secret")
        return str(block.get())

    def save(self, kind: str, name: str, values: Mapping[str, Json]) -> str:
        """See ``Blocks.save``."""
        block = block_of(kind)
        before: JsonObject = {}
        try:
            with translated():
                before = _stored(block, name)
        except ValueError:
            pass  # there is no block with this name yet
        merged = {n: v for n, v in {**before, **values}.items() if v is not None}
        document = block(**merged)
        try:
            with translated():
                document.save(name, overwrite=True)
        except ValueError:
            raise ConfigError(
                "is not a block name",
                field="--block",
                value=name,
                allowed="letters, digits and dashes",
                hint="--block prod",
            ) from None
        return f"{kind}/{name}"


def _refusal(problems: list[ConfigError]) -> ConfigError | ConfigErrors:
    return problems[0] if len(problems) == 1 else ConfigErrors(problems)


def _problems(block: type[Block], error: ValidationError) -> list[ConfigError]:
    """Returns what is wrong with a block, field by field, without values of secrets."""
    kind = (block._block_type_slug or "secret").removeprefix("drillyard-")
    return [_problem(kind, block.model_fields, each) for each in error.errors()]


def _problem(kind: str, fields: Mapping[str, FieldInfo], error: ErrorDetails) -> ConfigError:
    field = ".".join(str(part) for part in error["loc"])
    message, value = error["msg"].removeprefix("Value error, "), error["input"]
    if not field:  # a rule of several fields begins with the name of one
        head, _, rest = message.partition(": ")
        field, message = (head, rest) if head in fields else ("", message)
        value = value.get(field) if isinstance(value, dict) else None
    known = fields.get(field.partition(".")[0])
    visible = known is not None and not is_secret(field, fields)
    near = nearest(field, list(fields)) if error["type"] == "extra_forbidden" else None
    return ConfigError(
        message,
        field=f"backends.{kind}.{field}".rstrip("."),
        value=value if visible and error["type"] != "missing" else None,
        hint=near
        or (known.description if known is not None else None)
        or f"drillyard configure {kind} --show lists the settings",
    )


def _loaded(kind: type[B], name: str) -> B:
    try:
        block = kind.load(name)
    except RuntimeError as error:
        if isinstance(error.__cause__, ValidationError):  # Prefect's UI saves what it is given
            problems = _problems(kind, error.__cause__)
            raise _refusal([_stored_wrongly(kind, name, each) for each in problems]) from None
        raise
    if not isinstance(block, kind):  # a coroutine only inside an event loop
        raise Bug(f"Prefect loaded {type(block).__name__} instead of {kind.__name__}")
    return block


def _stored_wrongly(kind: type[Block], name: str, error: ConfigError) -> ConfigError:
    backend = (kind._block_type_slug or "secret").removeprefix("drillyard-")
    command = f", or drillyard configure {backend} --block {name}" if backend != "secret" else ""
    lacks = "has no value: the block was saved without it, or before an update added it"
    return error.but(
        message=lacks if error.message == "Field required" else error.message,
        file=f"block {backend}/{name}",
        allowed=error.hint,
        hint=f"edit the block in Prefect's UI{command}",
    )


def _stored(kind: type[BackendBlock], name: str) -> JsonObject:
    """Returns the values of a block, also of one that cannot be used as it is."""
    try:
        return _loaded(kind, name).given()[0]
    except (ConfigError, ConfigErrors):
        with warnings.catch_warnings():  # Prefect's, about the fields that are missing
            warnings.simplefilter("ignore")
            block = kind.load(name, validate=False)
        return {n: v for n, v in vars(block).items() if n in kind._settings() and v is not None}


def _load(kind: type[B], name: str, label: str, hint: str) -> B:
    try:
        with translated():
            return _loaded(kind, name)
    except ValueError:  # Prefect's error for a missing block
        raise ConfigError(
            f"Prefect has no {kind._block_type_slug or 'secret'} block {name!r}",
            value=label,
            hint=hint,
        ) from None
