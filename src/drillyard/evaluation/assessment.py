"""Assessment: a policy or a baseline plays each of given initial conditions once.

assessment.csv       a row for each condition: ``episode_id``, ``config_*``, return, length,
                     success, how it ended, and ``state_*``, the final state
assessment_logs.csv  a row for each step: ``state_*``, ``action_*``, ``config_*``, ``reward``,
                     ``reward_cumsum``, ``terminated``, ``truncated``, ``episode_id``, ``step_id``
assessment.json      the means, and what was assessed
assessment.html      the table, and each state over the steps
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from drillyard.agents.base import Which
from drillyard.documents.json_types import JsonObject
from drillyard.errors import ConfigError, UserError
from drillyard.spec.conditions import Condition
from drillyard.spec.expressions import Expression, read_expression
from drillyard.system.import_path import working_in

if TYPE_CHECKING:
    from drillyard.evaluation.episodes import Episode, Played
    from drillyard.mailbox import Mailbox

FILES = ("assessment.csv", "assessment_logs.csv", "assessment.json", "assessment.html")
Columns: TypeAlias = dict[str, Any]
"""Column -> cell of a CSV file; ``config_*`` and ``state_*`` depend on the simulator."""
Judge: TypeAlias = Callable[[Columns, dict[str, float]], bool | None]
"""From the row of an episode and its metrics to success; None if it is not known."""
_ENDS = ("episode_return", "length", "terminated", "truncated")


@dataclass(frozen=True)
class Request:
    """What is assessed, as JSON, so that any process can do a part of it.

    Attributes:
        simulator: The simulator part of an experiment.
        conditions: Reset options, one episode each.
        baseline: Name of the baseline; None for the agent of a run.
        store: URL of the store that has the run.
        experiment: Name of the experiment in the store.
        run: Id of the run, such as ``t0001-s1``.
        which: ``best`` or ``final``.
        deterministic: The agent acts without noise.
        folder: Folder of the user's modules; None if they come from the store.
        seed: Seed of the first episode; the following ones count up.
        success: An expression of final states and ``episode_return``, ``length``, ``terminated``,
            ``truncated``; empty for the simulator's own ``is_success``.
    """

    simulator: JsonObject
    conditions: list[Condition]
    baseline: str | None = None
    store: str = ""
    experiment: str = ""
    run: str = ""
    which: Which = "best"
    deterministic: bool = True
    folder: str | None = None
    seed: int = 1
    success: str = ""
    first: int = field(default=0, metadata={"what": "episode_id of the first condition"})

    def parts(self, n: int) -> list[Request]:
        """The same request in at most n parts, in order."""
        size = max(1, math.ceil(len(self.conditions) / max(1, n)))
        return [
            replace(self, conditions=self.conditions[at : at + size], first=self.first + at)
            for at in range(0, len(self.conditions), size)
        ]


@dataclass(frozen=True)
class Assessed:
    """An episode from one condition.

    Attributes:
        row: Row of ``assessment.csv``.
        steps: Rows of ``assessment_logs.csv``.
    """

    row: Columns
    steps: list[Columns]


def assess(request: Request, workers: int = 1) -> list[Assessed]:
    """Play all conditions.

    Args:
        request: What is assessed.
        workers: Number of processes; each of them plays several episodes together.

    Raises:
        UserError: The simulator, the policy or a condition cannot be used.
        RunFailed: A number is not finite.
    """
    parts = request.parts(workers)
    if len(parts) == 1:
        return play(request)
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # Spawned: torch has threads, which do not survive a fork.
    with ProcessPoolExecutor(len(parts), mp_context=get_context("spawn")) as pool:
        return [episode for part in pool.map(play, parts) for episode in part]


def play(request: Request) -> list[Assessed]:
    """Play the conditions of one part in this process. Raises as ``assess`` does."""
    from drillyard.agents.base import load_policy
    from drillyard.agents.trained import policy_files
    from drillyard.evaluation.episodes import Planned, run_baseline, run_episodes
    from drillyard.mailbox import Mailbox, open_store
    from drillyard.spec.learning import SimulatorSpec

    mailbox = Mailbox(open_store(request.store), request.experiment) if request.run else None
    with _code(request, mailbox):
        spec = SimulatorSpec.model_validate(request.simulator)
        judge = _judge(request.success)
        planned = [
            Planned(i, request.seed + request.first + i, dict(options))
            for i, options in enumerate(request.conditions)
        ]
        if request.baseline is not None:
            played = run_baseline(request.baseline, spec, planned, trajectory="all")
        else:
            assert mailbox is not None
            policy = load_policy(*policy_files(mailbox, request.run, request.which))
            played = run_episodes(
                spec,
                policy.playing(request.deterministic),
                planned,
                normalisation=policy.normalisation,
                trajectory="all",
            )
    return assessed(played, judge, request.first)


def assessed(played: Played, judge: Judge | None = None, first: int = 0) -> list[Assessed]:
    """The rows of played episodes.

    Args:
        played: Episodes with all trajectories.
        judge: Decides on success; None for the simulator's own ``is_success``.
        first: Number of the first episode.
    """
    judge = judge or _judge("")
    return [
        _assessed(episode, played.trajectories[episode.episode], first + episode.episode, judge)
        for episode in played.episodes
    ]


def _code(request: Request, mailbox: Mailbox | None) -> contextlib.AbstractContextManager[None]:
    """Makes the user's modules importable, and their folder the working folder."""
    if request.folder is not None:
        return working_in(Path(request.folder))
    if mailbox is None:
        return contextlib.nullcontext()
    from drillyard.runs.travelling import unpacked

    return unpacked(mailbox, mailbox.experiment_record().code)


def _judge(text: str) -> Judge:
    """Reads an expression of success; empty for the simulator's own ``is_success``."""
    if not text:
        return lambda _, metrics: bool(metrics["is_success"]) if "is_success" in metrics else None
    rule = success_rule(text)

    def judged(row: Columns, _: dict[str, float]) -> bool:
        states = {
            key.removeprefix("state_"): value
            for key, value in row.items()
            if key.startswith("state_")
        }
        given = {**states, **{key: row[key] for key in _ENDS}}
        try:
            return bool(rule.value(given))
        except KeyError as error:
            raise _wrong(text, f"uses an unknown name: {error}", ", ".join(given)) from None
        except (ArithmeticError, TypeError, ValueError) as error:
            raise _wrong(text, f"has no value: {error}", ", ".join(given)) from None

    return judged


def success_rule(text: str) -> Expression:
    """Read ``--success``.

    Raises:
        ConfigError: It is not an expression.
    """
    from drillyard.errors import BadValue

    try:
        return read_expression(text, "success", "abs(level - 0.5) < 0.05 and truncated")
    except BadValue as error:
        raise _wrong(text, str(error), error.allowed or "an expression") from None


def _wrong(text: str, what: str, allowed: str) -> UserError:
    return ConfigError(
        what,
        file="--success",
        value=text,
        allowed=allowed,
        hint="for example: abs(level - 0.5) < 0.05",
    )


def _assessed(
    episode: Episode, steps: list[dict[str, float]], number: int, judge: Judge
) -> Assessed:
    config: Columns = {f"config_{key}": value for key, value in episode.options.items()}
    final = {key: value for key, value in steps[-1].items() if key.startswith("state_")}
    row: Columns = {
        "episode_id": number,
        **config,
        "episode_return": episode.episode_return,
        "length": episode.length,
        "terminated": episode.terminated,
        "truncated": episode.truncated,
    }
    success = judge({**row, **final}, episode.metrics)
    total = 0.0
    logs: list[Columns] = []
    for step_id, step in enumerate(steps):
        total += step["reward"]
        last = step_id == len(steps) - 1
        columns = {
            key: value for key, value in step.items() if key.startswith(("state_", "action_"))
        }
        logs.append(
            {
                **columns,
                **config,
                "reward": step["reward"],
                "reward_cumsum": total,
                "terminated": last and episode.terminated,
                "truncated": last and episode.truncated,
                "episode_id": number,
                "step_id": step_id,
            }
        )
    return Assessed({**row, "success": success, **episode.metrics, **final}, logs)


def summary(episodes: Sequence[Assessed]) -> dict[str, int | float | None]:
    """The means over all conditions.

    Returns:
        ``episodes``, ``mean_return``, ``min_return``, ``max_return``, ``mean_length``, and as
        shares ``terminated`` and ``success``; None if success is not known.
    """
    returns = _column(episodes, "episode_return")
    judged = _column(episodes, "success")
    n = len(episodes)
    return {
        "episodes": n,
        "mean_return": math.fsum(returns) / n,
        "min_return": min(returns),
        "max_return": max(returns),
        "mean_length": sum(_column(episodes, "length")) / n,
        "terminated": sum(_column(episodes, "terminated")) / n,
        "success": sum(judged) / len(judged) if judged else None,
    }


def _column(episodes: Sequence[Assessed], name: str) -> list[float]:
    """The numbers in a column, without empty cells."""
    values = [episode.row[name] for episode in episodes]
    return [value for value in values if isinstance(value, int | float)]
