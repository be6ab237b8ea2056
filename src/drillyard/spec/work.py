"""The sections ``script:`` and ``mock:`` of an experiment file."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from drillyard.errors import BadValue
from drillyard.spec.strict import NotBool, PositiveFloat, Seed, Strict

Line = str | list[str]
"""A line that is split as in a shell, or a list of words."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
RESULT_SUFFIXES = (".csv", ".json")


def inside(value: str) -> str:
    """A path that stays in the working folder.

    Raises:
        ValueError: It is absolute or leads out.
    """
    path = PurePosixPath(value.replace("\\", "/"))
    if not value.strip() or path.is_absolute() or ".." in path.parts:
        raise BadValue(
            "is not a path inside the working folder",
            allowed="a path without `..` that does not begin with /",
            hint="for example results/metrics.csv",
        )
    return value


def check_lines(value: list[Line]) -> list[Line]:
    """Returns commands that can be split into words.

    Raises:
        BadValue: A command is empty, or its quotes do not close.
    """
    for line in value:
        try:
            words = shlex.split(line) if isinstance(line, str) else line
        except ValueError as error:
            raise BadValue(
                f"{line!r} cannot be split: {str(error).lower()}",
                allowed="words, quoted as in a shell, or a list of words",
                hint="close the quotes, or write a list: [python, train.py]",
            ) from None
        if not words or not words[0].strip():
            raise BadValue(
                "holds an empty command",
                allowed="commands with at least one word",
                hint="delete the empty line",
            )
        if any("\0" in word for word in words):
            raise BadValue(
                "holds a command with a null character",
                allowed="visible characters",
                hint="delete it",
            )
    return value


def compiled(text: str) -> re.Pattern[str]:
    """Returns a regular expression.

    Raises:
        BadValue: It is none.
    """
    try:
        return re.compile(text)
    except re.error as error:
        raise BadValue(
            f"is not a regular expression: {error}",
            allowed="a regular expression of Python",
            hint="escape literal brackets: \\\\( and \\\\[",
        ) from None


Lines = Annotated[list[Line], AfterValidator(check_lines)]
Inside = Annotated[str, AfterValidator(inside)]


class Transfer(Strict):
    """A file or folder that is copied; folders whole."""

    source: str = Field(alias="from", description="A file or folder.")
    to: str = Field(description="Target; a text that ends in `/` is a folder.")


class Upload(Transfer):
    """From the working folder to a share."""

    _inside = field_validator("source")(inside)


class Download(Transfer):
    """From a share to the working folder."""

    _inside = field_validator("to")(inside)


class EnvironmentSpec(Strict):
    """Parameters as environment variables."""

    parameters: Literal["all"] | list[str] = Field(
        "all", description="Which parameters become variables, by name."
    )
    rename: dict[str, str] = Field(
        default_factory=dict,
        description="Parameter: variable. Other parameters keep their names, with `_` for "
        "characters that a variable cannot have.",
    )

    @field_validator("rename")
    @classmethod
    def _variables(cls, value: dict[str, str]) -> dict[str, str]:
        for variable in value.values():
            if not _VARIABLE.match(variable):
                raise BadValue(
                    f"{variable!r} is not a valid name of an environment variable",
                    allowed="letters, digits and _, no digit first",
                    hint="for example MY_RATE",
                )
        return value


class ResultsSpec(Strict):
    """The source of a script's metrics."""

    stdout: str | None = Field(
        None,
        description="Regular expression with two groups, name and value; each match in the "
        "output of `run` is a metric. `^` and `$` are the ends of lines.",
    )
    file: str | None = Field(
        None,
        description="A .csv (lines `metric,value`, or names above one row of values) or "
        ".json file in the working folder. It wins over the output.",
    )

    @field_validator("stdout")
    @classmethod
    def _two_groups(cls, value: str | None) -> str | None:
        groups = 2 if value is None else compiled(value).groups
        if groups != 2:
            raise BadValue(
                f"has {groups} groups; two are needed, the metric's name and value",
                allowed="a regular expression with two groups",
                hint="for example '(\\w+)=([-+0-9.e]+)'",
            )
        return value

    @field_validator("file")
    @classmethod
    def _known_kind(cls, value: str | None) -> str | None:
        if (
            value is not None
            and PurePosixPath(inside(value)).suffix.lower() not in RESULT_SUFFIXES
        ):
            raise BadValue(
                "is not a .csv or .json file",
                allowed="a .csv or .json file",
                hint="for example metrics.json",
            )
        return value


class ScriptSpec(Strict):
    """Commands that do the work."""

    setup: Lines = Field(default_factory=list, description="Commands before `run`.")
    run: Lines = Field(description="Commands that do the work.", min_length=1)
    teardown: Lines = Field(
        default_factory=list, description="Commands after `run`, also when something failed."
    )
    shell: bool = Field(
        False,
        description="Pass each line to `sh -c`. Otherwise a line is split into words and "
        "no shell sees it.",
    )
    abort_on_error: bool = Field(
        True,
        description="Skip the lines after a failed one. A run with a failed line fails "
        "in any case.",
    )
    environment: EnvironmentSpec = Field(
        default_factory=lambda: EnvironmentSpec(), description="Parameters as variables."
    )
    parameters_file: Inside = Field(
        "parameters.json", description="JSON file with all parameters, in the working folder."
    )
    results: ResultsSpec = Field(
        default_factory=lambda: ResultsSpec(), description="Source of the metrics."
    )
    telemetry: Inside | None = Field(
        None, description="CSV file with lines `timestamp,metric,value`, read while it grows."
    )
    upload: list[Upload] = Field(
        default_factory=list, description="Copied out of the working folder after `setup`."
    )
    download: list[Download] = Field(
        default_factory=list,
        description="Copied into the working folder after `run`, before results are read.",
    )
    keep: list[str] = Field(
        default_factory=list, description="Globs of files in the working folder that are results."
    )
    max_time_s: PositiveFloat | None = Field(
        None, description="Longest time of `run`, s; then all its processes are stopped."
    )
    setup_max_time_s: PositiveFloat = Field(600.0, description="The same for `setup`, s.")
    teardown_max_time_s: PositiveFloat = Field(60.0, description="The same for `teardown`, s.")

    @model_validator(mode="after")
    def _no_words_in_a_shell(self) -> ScriptSpec:
        if self.shell:
            for line in (*self.setup, *self.run, *self.teardown):
                if not isinstance(line, str):
                    raise BadValue(
                        f"{line!r} is a list of words, but `shell` needs lines",
                        key="shell",
                        allowed="lines of text with `shell: true`",
                        hint=f"write {shlex.join(line)!r}, or shell: false",
                    )
        return self


class MockSpec(Strict):
    """A synthetic score: for trying studies, backends and reports without cost."""

    metrics: list[str] = Field(
        default_factory=lambda: ["score"], min_length=1, description="Names; all have the score."
    )
    range: tuple[Annotated[float, NotBool], Annotated[float, NotBool]] = Field(
        (0.0, 1.0), description="[lowest, highest] score."
    )
    noise: Annotated[float, Field(ge=0), NotBool] = Field(
        0.0, description="Standard deviation of the noise, in parts of the range; 0: none."
    )
    seed: Seed | Literal["random"] | None = Field(
        None,
        description="Seed of the noise: a number; null uses the run's seed; `random` is "
        "different each time.",
    )
    points: Annotated[int, Field(ge=0, le=100_000), NotBool] = Field(
        0, description="Points of a curve that rises to the score, for pruning; 0: none."
    )
    duration_s: Annotated[float, Field(ge=0), NotBool] = Field(0.0, description="Duration, s.")

    @field_validator("metrics")
    @classmethod
    def _names(cls, value: list[str]) -> list[str]:
        if any(not name.strip() for name in value) or len(set(value)) < len(value):
            raise BadValue(
                "holds an empty name, or one twice",
                allowed="each name once",
                hint="for example [score, loss]",
            )
        return value

    @field_validator("range")
    @classmethod
    def _rising(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] >= value[1]:
            raise BadValue(
                "the second number must be greater than the first",
                allowed="[lowest, highest]",
                hint=f"write [{value[1]:g}, {value[0]:g}]"
                if value[0] > value[1]
                else "for example [0, 1]",
            )
        return value


def words_of(line: str | list[str]) -> list[str]:
    """Splits a line into words without a shell."""
    return shlex.split(line) if isinstance(line, str) else list(line)
