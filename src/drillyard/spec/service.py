"""The section ``service:``: a program that others use while it runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from drillyard.errors import BadValue
from drillyard.spec.strict import NotBool, PositiveFloat, Strict
from drillyard.spec.work import EnvironmentSpec, Line, Lines, check_lines, compiled

READY = ("http", "output", "command")


class ReadySpec(Strict):
    """How a service shows that it is ready. Without one of the three, its port is tried."""

    http: str | None = Field(
        None, description="Path that answers with a status below 400: `/health`."
    )
    output: str | None = Field(
        None, description="Regular expression that a line of its output matches."
    )
    command: Line | None = Field(None, description="Command that ends with code 0.")
    timeout_s: PositiveFloat = Field(60.0, description="Longest time until it is ready, s.")

    @field_validator("http")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("/"):
            raise BadValue(
                "is not a path",
                allowed="a path that begins with /",
                hint=f"write /{value.split('/')[-1]}",
            )
        return value

    @field_validator("output")
    @classmethod
    def _expression(cls, value: str | None) -> str | None:
        compiled(value or "")
        return value

    @field_validator("command")
    @classmethod
    def _words(cls, value: Line | None) -> Line | None:
        if value is not None:
            check_lines([value])
        return value

    @model_validator(mode="after")
    def _one_way(self) -> ReadySpec:
        given = [name for name in READY if getattr(self, name) is not None]
        if len(given) > 1:
            raise BadValue(
                f"has {' and '.join(given)}, and one of them decides",
                key=given[1],
                allowed="one of http, output and command, or none: the port is tried",
                hint=f"delete `{given[1]}:`",
            )
        return self


class ServiceSpec(Strict):
    """A program that is started, is ready at some time, serves others, and is stopped."""

    setup: Lines = Field(default_factory=list, description="Commands before `start`.")
    start: Line = Field(
        description="Command that serves until it is stopped. It gets its address in the "
        "variables HOST and PORT."
    )
    stop: Lines = Field(
        default_factory=list,
        description="Commands that stop it; then SIGTERM, and SIGKILL after `stop_timeout_s`.",
    )
    ready: ReadySpec = Field(
        default_factory=lambda: ReadySpec(), description="How it shows that it is ready."
    )
    host: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        None,
        description="Name or address under which others reach its machine; default: the "
        "machine's own address, on the backend `local` 127.0.0.1.",
    )
    port: Annotated[int, Field(ge=1, le=65_535), NotBool] | None = Field(
        None, description="Its port; default: a free one."
    )
    shell: bool = Field(False, description="Pass each line to `sh -c`.")
    environment: EnvironmentSpec = Field(
        default_factory=lambda: EnvironmentSpec(), description="Parameters as variables."
    )
    setup_max_time_s: PositiveFloat = Field(600.0, description="Longest time of `setup`, s.")
    stop_timeout_s: PositiveFloat = Field(
        5.0, description="Longest time of `stop`, and between SIGTERM and SIGKILL, s."
    )

    @field_validator("start")
    @classmethod
    def _line(cls, value: Line) -> Line:
        check_lines([value])
        return value

    @model_validator(mode="after")
    def _no_words_in_a_shell(self) -> ServiceSpec:
        lines = [*self.setup, self.start, *self.stop]
        if self.shell and any(not isinstance(line, str) for line in lines):
            raise BadValue(
                "has a list of words, but `shell` needs lines",
                key="shell",
                allowed="lines of text with `shell: true`",
                hint="write each command as one text, or shell: false",
            )
        return self
