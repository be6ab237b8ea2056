"""Writes short experiment files: the few fields that differ between experiments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from drillyard.authoring.generate import STEPS, experiment_name, must_fit
from drillyard.authoring.yaml_comments import scalar
from drillyard.documents.files import read_document
from drillyard.documents.json_types import Json, as_list, as_object
from drillyard.errors import ConfigError, ConfigErrors, UserError, refuse_together
from drillyard.spec import presets
from drillyard.spec.experiment import NAME_RULE, is_name
from drillyard.spec.field_options import seeds_of, steps_of
from drillyard.system.output_files import check_file, write_whole

_Value = TypeVar("_Value")
_OPTIONS = {"learner.algorithm": "--algorithm", "simulator.id": "--simulator"}
EPISODES = 20
"""Episodes of the final evaluation."""
LOOKS = 10
"""Evaluations while training."""


@dataclass(frozen=True)
class Short:
    """What a short experiment file says.

    Args:
        algorithm: A registered learner.
        simulator: A built-in, a Gymnasium id, or ``module:Class``.
        name: Name of the experiment.
        steps: Budget in environment steps.
        seeds: One run each.
    """

    algorithm: str
    simulator: str
    name: str
    steps: int
    seeds: Sequence[int] = (1,)

    @property
    def file(self) -> str:
        """Name of its file in the current folder."""
        return f"{self.name}.yaml"

    @property
    def text(self) -> str:
        """The whole file."""
        which = f"-a {self.algorithm} -s {self.simulator}"
        every = max(1, self.steps // LOOKS)
        seeds = ", ".join(map(str, self.seeds))
        return "\n".join(
            [
                f"# {self.algorithm} on {self.simulator}. Run it, or continue it: "
                f"drillyard run {self.file}",
                f"# Every field with its meaning: drillyard generate {which}",
                "# To search its arguments, add `tune: default` to the learner and, at the end,",
                "# `study: {trials: 30}`.",
                "schema: 1",
                f"name: {scalar(self.name)}",
                f"simulator: {{id: {scalar(self.simulator)}}}",
                f"learner: {{algorithm: {scalar(self.algorithm)}}}",
                f"train: {{steps: {self.steps:_}}}",
                f"evaluate: {{episodes: {EPISODES}, every: {{steps: {every:_}, episodes: 5}}}}",
                f"seeds: [{seeds}]",
                "baselines: [random]",
                "",
            ]
        )

    def is_written(self) -> bool:
        """Whether the current folder has the file already, with this text."""
        path = Path(self.file)
        return path.is_file() and path.read_bytes() == self.text.encode()

    @contextmanager
    def written(self) -> Iterator[Path]:
        """Writes the file into the current folder; takes it back if the user's input is refused.

        A file that was written before and not edited is replaced.

        Raises:
            ConfigError: There is another file with this name, or it cannot be written.
        """
        path = Path(self.file)
        check_file(path, "-a")
        before = path.read_bytes() if path.is_file() else None
        if before is not None and before != self.text.encode() and not _unedited(path):
            raise ConfigError(
                f"{path} exists and is not as `drillyard run -a` wrote it",
                file="command line",
                field="--algorithm",
                value=self.algorithm,
                allowed="a name without a file, or a file that was not edited",
                hint=f"run that file: drillyard run {path}; or choose another name: --name "
                f"{self.name}-2",
            )
        write_whole(path, self.text.encode(), "-a")
        try:
            yield path
        except UserError:
            if before is None:
                path.unlink()
            else:
                write_whole(path, before, "-a")
            raise


def from_options(
    algorithm: str,
    simulator: str,
    *,
    name: str | None = None,
    steps: str | None = None,
    seeds: str | None = None,
    folder: Path = Path(),
) -> Short:
    """Returns the short experiment file that a command line means.

    Args:
        algorithm: A registered learner.
        simulator: A built-in, a Gymnasium id, or ``module:Class`` in ``folder``.
        name: Name of the experiment; default from simulator and algorithm.
        steps: Budget, ``50k``; default: with which its preset was measured, or 100,000.
        seeds: Their number, or a list; default: seed 1.
        folder: Where modules are imported from.

    Raises:
        ConfigError: One option is wrong, or the algorithm cannot act in this simulator.
        ConfigErrors: Several are.
    """
    algorithm = algorithm if ":" in algorithm else algorithm.lower()
    problems: list[ConfigError] = []

    def tried(read: Callable[[], _Value]) -> _Value | None:
        try:
            return read()
        except (ConfigError, ConfigErrors) as wrong:
            for error in wrong.errors:
                option = _OPTIONS.get(str(error.field))
                problems.append(error.but(file="command line", field=option) if option else error)
        return None

    if name is not None and not is_name(name):
        problems.append(
            ConfigError(
                "is not a valid name",
                file="command line",
                field="--name",
                value=name,
                allowed=NAME_RULE,
                hint=f"for example --name {experiment_name(algorithm, simulator)}",
            )
        )
    tried(lambda: must_fit(algorithm, simulator, folder))
    given = tried(lambda: steps_of(steps)) if steps is not None else None
    listed = tried(lambda: seeds_of(seeds)) if seeds is not None else [1]
    refuse_together(problems)
    return Short(
        algorithm,
        simulator,
        name or experiment_name(algorithm, simulator),
        given or _measured(algorithm, simulator),
        listed or [1],
    )


def write_short(short: Short, out: Path | None) -> str:
    """Writes a short file to a new path; without one, only returns its text.

    Args:
        short: The file.
        out: Where to write it.

    Raises:
        ConfigError: There is such a file already, or it cannot be written.
    """
    if out is None:
        return short.text
    if out.exists() and out.read_bytes() != short.text.encode():
        raise ConfigError(
            "exists already",
            file="command line",
            field="--out",
            value=str(out),
            allowed="a new file",
            hint="choose another name; without --short, missing fields are added to this file",
        )
    write_whole(out, short.text.replace(short.file, str(out)).encode(), "--out")
    return short.text


def _measured(algorithm: str, simulator: str) -> int:
    layer = presets.find("auto", algorithm, simulator, budget=True)
    train = as_object(layer.mapping.get("train", {})) if layer is not None else {}
    measured = train.get("steps")
    return measured if isinstance(measured, int) else STEPS


def _unedited(path: Path) -> bool:
    """Whether a file is exactly what was written for its own values."""
    try:
        tree = read_document(path, path.name).mapping
        same = Short(
            str(as_object(tree["learner"])["algorithm"]),
            str(as_object(tree["simulator"])["id"]),
            str(tree["name"]),
            _whole(as_object(tree["train"])["steps"]),
            [_whole(seed) for seed in as_list(tree["seeds"])],
        )
    except (UserError, LookupError, TypeError, ValueError):
        return False
    return same.text == path.read_text(encoding="utf-8")


def _whole(value: Json) -> int:
    if not isinstance(value, int):
        raise ValueError(value)
    return value
