"""The evaluate phase: agent and baselines on the same episodes; files and numbers of the result.

evaluation/episodes.json, .csv     every episode of every policy
trajectories/<policy>.csv          the steps of the first episode of a policy
assessment/<policy>.csv, _logs.csv  each of ``evaluate.conditions``, and each of its steps
steps/<policy>/…                   every step of all of them, with the wrapper ``csv_logger``
trajectories/meta.json             its options and return; units and references of the columns
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

from drillyard.agents.base import LoadedPolicy, load_policy
from drillyard.agents.trained import policy_files
from drillyard.documents.json_types import JsonObject, as_object
from drillyard.evaluation.assessment import Assessed, assessed
from drillyard.evaluation.assessment import summary as assessment_of
from drillyard.evaluation.episodes import (
    Planned,
    Played,
    lesson_of,
    plan,
    run_baseline,
    run_episodes,
)
from drillyard.evaluation.summary import summarise
from drillyard.mailbox.patience import persist
from drillyard.mailbox.records import Manifest
from drillyard.metrics.step_csv import step_logs
from drillyard.runs.workload import PhaseOutcome, RunContext
from drillyard.spec.experiment import ExperimentSpec
from drillyard.system.tables import csv_of_rows

if TYPE_CHECKING:
    from drillyard.evaluation.video_episodes import Videos

AGENT = "agent"


def evaluate_phase(context: RunContext) -> PhaseOutcome:
    """Evaluate the agent of a run, and the baselines in the run of the first seed.

    Args:
        context: Context of the evaluate ticket, after the training of the run was accepted.

    Returns:
        The files above, and as summary ``policies`` (name -> ``summarise``), ``policy_used``, and
        with conditions ``assessment`` (name -> ``assessing.summary``).

    Raises:
        CorruptObject: The training's files are missing or changed.
        RunFailed: A measured value is not finite.
        Stopped: A stop was requested.
    """
    spec = context.spec
    assert spec.simulator is not None
    # A member of a population is compared by the policy that the next generation inherits.
    compared = spec.evaluate.policy if context.run.lineage is None else "final"
    trained, which = persist(lambda: policy_files(context.mailbox, context.run.run, compared))
    policy = load_policy(trained, which)
    trial = persist(lambda: context.mailbox.trial(context.run.trial))
    confirms = trial is not None and trial.of is not None
    # An experiment keeps the episodes that it began with.
    planned = plan(spec, again=confirms, streams=context.run.streams)
    # Once for each experiment; a listed one may have another simulator, with other baselines.
    first = context.run.seed == spec.seeds[0] and (context.run.trial == 1 or context.run.parts)
    names = [AGENT, *(spec.baselines if first else [])]
    played: dict[str, Played] = {}
    for number, name in enumerate(names):
        on_step = _watch(context, name, number * len(planned), len(names) * len(planned))
        played[name] = _play(spec, name, policy, planned, True, on_step)
        context.log.info("evaluated %s: %d episodes", name, len(planned))
    texts = result_files(spec, played)
    for name, p in played.items():
        logs = step_logs(p.logs, spec.simulator.id, context.claim.claimed_at)
        texts |= {f"steps/{_file_name(name)}/{file}": text for file, text in logs}
    lesson = lesson_of(spec)
    summary: JsonObject = {
        "policies": {name: summarise(p.episodes, lesson) for name, p in played.items()},
        "policy_used": which,
    }
    if spec.evaluate.conditions:
        by_name = {name: _assess(context, name, policy, planned) for name in names}
        summary["assessment"] = {name: {**assessment_of(each)} for name, each in by_name.items()}
        texts |= _assessment_files(by_name)
    files = {name: context.save(name, data.encode()) for name, data in texts.items()}
    problems: list[str] = []
    if spec.evaluate.videos is not None:
        films = _films(context, policy, trained, planned, played[AGENT])
        files |= {name: context.save(name, data) for name, data in films.files.items()}
        problems += films.problems
    if spec.tracking.register_as is not None:
        from drillyard.policies.export_in_run import enclosed

        bundle, problem = enclosed(context, which, summary)
        files |= bundle
        problems += filter(None, [problem])
    summary |= {"problems": [*problems]} if problems else {}
    return PhaseOutcome(files=Manifest(files=files), summary=summary)


def _assess(
    context: RunContext, name: str, policy: LoadedPolicy, planned: Sequence[Planned]
) -> list[Assessed]:
    """An episode from each of ``evaluate.conditions``, with the seeds of the evaluation."""
    conditions = context.spec.evaluate.conditions or []
    given = [
        Planned(i, seeded.seed, dict(options))
        for i, (seeded, options) in enumerate(zip(cycle(planned), conditions, strict=False))
    ]
    on_step = _watch(context, name, 0, len(given))
    episodes = assessed(_play(context.spec, name, policy, given, "all", on_step))
    context.log.info("assessed %s: %d conditions", name, len(given))
    return episodes


def _assessment_files(by_name: Mapping[str, Sequence[Assessed]]) -> dict[str, str]:
    texts = {}
    for name, episodes in by_name.items():
        place = f"assessment/{_file_name(name)}"
        texts[f"{place}.csv"] = csv_of_rows([e.row for e in episodes])
        texts[f"{place}_logs.csv"] = csv_of_rows([step for e in episodes for step in e.steps])
    return texts


def _films(
    context: RunContext,
    policy: LoadedPolicy,
    trained: Mapping[str, bytes],
    planned: Sequence[Planned],
    played: Played,
) -> Videos:
    """Videos of the agent, and of its policies at checkpoints."""
    from drillyard.agents.earlier import earlier
    from drillyard.evaluation.video_episodes import film

    spec = context.spec
    assert spec.simulator is not None

    def checkpoints() -> dict[str, LoadedPolicy]:
        policies = earlier(context.mailbox, context.run.run, trained)
        return {f"step {step:,}": policy for step, policy in policies.items()}

    return film(spec.simulator, policy, spec.evaluate.deterministic, planned, played, checkpoints)


def _play(
    spec: ExperimentSpec,
    name: str,
    policy: LoadedPolicy,
    planned: Sequence[Planned],
    trajectory: bool | Literal["all"],
    on_step: Callable[[int], None],
) -> Played:
    assert spec.simulator is not None
    if name != AGENT:
        return run_baseline(name, spec.simulator, planned, trajectory=trajectory, on_step=on_step)
    return run_episodes(
        spec.simulator,
        _acting(policy, spec.evaluate.deterministic, planned),
        planned,
        normalisation=policy.normalisation,
        trajectory=trajectory,
        on_step=on_step,
    )


def _acting(policy: LoadedPolicy, deterministic: bool, planned: Sequence[Planned]) -> Any:
    if not deterministic:
        import torch

        # The exploration noise of a stochastic policy: the same in every evaluation.
        torch.manual_seed(planned[0].seed)
    return policy.playing(deterministic)


def _watch(context: RunContext, name: str, before: int, total: int) -> Callable[[int], None]:
    def on_step(ended: int) -> None:
        context.stop.check()
        context.progress(
            step=before + ended, total=total, episodes=before + ended, message=f"evaluate {name}"
        )

    return on_step


def result_files(spec: ExperimentSpec, played: dict[str, Played]) -> dict[str, str]:
    """Name -> text of the files of an evaluation.

    Args:
        spec: Its ``report.units`` win over those that the simulator declares.
        played: Policy -> what it played.
    """
    episodes = [e.to_json() for p in played.values() for e in p.episodes]
    files = {
        "evaluation/episodes.json": json.dumps(episodes, indent=1, allow_nan=False),
        "evaluation/episodes.csv": _episodes_csv(episodes),
    }
    meta: JsonObject = {}
    units_of: JsonObject = {}
    references_of: JsonObject = {}
    for name, p in played.items():
        file_name = _file_name(name)
        files[f"trajectories/{file_name}.csv"] = csv_of_rows(p.trajectory)
        first = p.episodes[0]
        meta[file_name] = {"options": first.options, "return": first.episode_return}
        columns = {column for row in p.trajectory for column in row}
        units = {**p.metadata.get("units", {}), **spec.report.units}
        references = dict(p.metadata.get("reference", {}))
        units_of |= {c: u for c, u in units.items() if c in columns}
        references_of |= {s: r for s, r in references.items() if s in columns and r in columns}
        meta |= {"units": units_of, "reference": references_of}
    files["trajectories/meta.json"] = json.dumps(meta, indent=1, allow_nan=False)
    return files


def _file_name(policy: str) -> str:
    return policy.replace(":", ".")


def _episodes_csv(episodes: Sequence[JsonObject]) -> str:
    plain = ("policy", "episode", "seed", "return", "length", "terminated", "truncated")
    rows = [
        {
            **{key: episode[key] for key in plain},
            **{f"option_{key}": value for key, value in as_object(episode["options"]).items()},
            **as_object(episode["metrics"]),
        }
        for episode in episodes
    ]
    return csv_of_rows(rows)
