"""The policy of a run, read from its accepted results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from drillyard.agents.base import LEARNER_FILE, LoadedPolicy, Which, load_policy, policy_file_names
from drillyard.errors import CorruptObject, NotFound
from drillyard.mailbox import Mailbox
from drillyard.mailbox.records import Phase
from drillyard.runs.travelling import unpacked
from drillyard.spec import ExperimentSpec
from drillyard.spec.binding import bound


@dataclass(frozen=True)
class Trained:
    """A policy and its origin."""

    experiment: str
    run: str
    seed: int
    which: Which
    spec: ExperimentSpec
    """As the run saw it."""
    files: dict[str, bytes]
    """Of ``policy_file_names(which)``."""
    policy: LoadedPolicy
    training: dict[str, Any]
    """Summary of the training."""
    evaluation: dict[str, Any]
    """Summary of the evaluation; empty without one."""
    versions: dict[str, str]

    @property
    def algorithm(self) -> str:
        """Name of the learner."""
        return str(json.loads(self.files[LEARNER_FILE])["algorithm"])

    @property
    def step(self) -> int:
        """Environment steps that the policy has learned from."""
        best = self.training.get("best") or {}
        if self.which == "best" and best:
            return int(best["step"])
        return int(self.training.get("steps", 0))


def policy_files(mailbox: Mailbox, run: str, wanted: Which) -> tuple[dict[str, bytes], Which]:
    """The files of a run's policy; the final one's where there is no best.

    Raises:
        NotFound: The run has no accepted training.
        CorruptObject: Its files are missing or changed.
    """
    manifest = mailbox.result(run, Phase.TRAIN)
    which: Which = wanted if f"policy_{wanted}.safetensors" in manifest.files else "final"
    files = {
        name: mailbox.read_file(manifest, name)
        for name in policy_file_names(which)
        if name in manifest.files
    }
    if not files:
        raise CorruptObject(f"the training of {run} has no policy")
    return files, which


def load_trained(
    mailbox: Mailbox, run: str, wanted: Which, evaluation: dict[str, Any] | None = None
) -> Trained:
    """The policy of a run whose code can be imported already.

    Args:
        mailbox: Its experiment.
        run: Its id.
        wanted: The best one while training (else the final one), or the final one.
        evaluation: Summary of its evaluation; None: of the accepted one, where there is one.

    Raises:
        NotFound: The run has no accepted training.
        CorruptObject: Its files are missing or changed.
    """
    record, accepted = mailbox.experiment_record(), mailbox.accepted(run, Phase.TRAIN)
    if accepted is None:
        raise NotFound(
            f"{mailbox.experiment}/{run} has no finished training", hint="see `drillyard status`"
        )
    if evaluation is None:
        evaluated = mailbox.accepted(run, Phase.EVALUATE)
        evaluation = dict(evaluated.summary) if evaluated is not None else {}
    files, which = policy_files(mailbox, run, wanted)
    of_run = mailbox.run(run)
    return Trained(
        experiment=mailbox.experiment,
        run=run,
        seed=of_run.seed,
        which=which,
        spec=bound(ExperimentSpec.model_validate(record.spec), of_run),
        files=files,
        policy=load_policy(files, which),
        training=dict(accepted.summary),
        evaluation=evaluation,
        versions=dict(record.versions),
    )


@contextmanager
def trained(mailbox: Mailbox, run: str, wanted: Which = "best") -> Iterator[Trained]:
    """``load_trained`` with the code that travelled with the run, which is the working folder.

    Raises:
        NotFound, CorruptObject: See ``load_trained``.
    """
    with unpacked(mailbox, mailbox.experiment_record().code):
        yield load_trained(mailbox, run, wanted)
