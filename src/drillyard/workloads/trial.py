"""A training of a few steps by the code of a whole one: what ``drillyard check`` tries."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from drillyard.documents.json_types import as_integer
from drillyard.errors import ConfigError
from drillyard.learners.plan import freeze
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.mailbox import run_id, sha256_hex, ticket_id
from drillyard.mailbox.records import STREAMS, Accepted, Claim, Phase, RunRecord
from drillyard.runs import checkpoints
from drillyard.runs.workload import PhaseOutcome, RunContext, StopSignal, Workload
from drillyard.simulators.same_copies import must_agree
from drillyard.spec import ExperimentSpec
from drillyard.spec.algorithms.argument_table import ARGUMENTS, TABLE, TRIAL_ROLLOUT
from drillyard.spec.algorithms.signatures import ON_POLICY
from drillyard.spec.binding import bind, run_parameters
from drillyard.spec.learning import (
    VECTORISED_FROM,
    LearnerSpec,
    SimulatorSpec,
    TrainSpec,
    Wrapper,
)

EPISODE = 20
"""Most steps of the evaluated episode."""


def shortened(spec: ExperimentSpec) -> ExperimentSpec:
    """Returns an experiment that does everything once and is otherwise the same.

    Two rollouts with an update each, a checkpoint between them, an evaluation of one episode.

    Args:
        spec: An ``rl`` experiment.
    """
    learner, train, simulator = spec.learner, spec.train, spec.simulator
    if learner is None or train is None or simulator is None:
        raise ConfigError("an `rl` experiment needs `simulator:`, `learner:` and `train:`")
    at_once = bool(freeze(spec, 0).get("vectorised"))
    copies = min(train.n_envs, VECTORISED_FROM if at_once else 2)
    steps = copies * 2 * TRIAL_ROLLOUT
    every = spec.evaluate.every
    # One host, on this machine: the messages are those of a whole training.
    hosted = simulator.copies_on == "workers"
    resources = spec.resources.model_copy(update={"workers": 2}) if hosted else spec.resources
    on = "workers" if hosted else "learner"
    return spec.model_copy(
        update={
            "simulator": simulator.model_copy(update={"copies_on": on}),
            "backend": "local" if hosted else spec.backend,
            "resources": resources,
            "seeds": [spec.seeds[0] if spec.seeds else 1],
            "baselines": [],
            "study": None,
            "store": [],
            "learner": _learner(learner, copies),
            "train": _train(train, copies, steps),
            "evaluate": spec.evaluate.model_copy(
                update={
                    "episodes": 1,
                    "seeds": "fixed",
                    "videos": None,
                    "conditions": None,
                    "keep_best": 0,
                    "every": every
                    and every.model_copy(
                        update={"steps": steps, "after_episodes": None, "episodes": 1}
                    ),
                }
            ),
            "tracking": spec.tracking.model_copy(update={"mlflow": None, "tensorboard": False}),
        }
    )


def _train(train: TrainSpec, copies: int, steps: int) -> TrainSpec:
    return train.model_copy(
        update={
            "steps": 2 * steps,
            "episodes": None,
            "max_time_s": None,
            "n_envs": copies,
            "checkpoint_every": steps,
            "stop": None,
            "log_interval": steps,
        }
    )


def _learner(learner: LearnerSpec, copies: int) -> LearnerSpec:
    known = ARGUMENTS.get(learner.algorithm, {})
    args: dict[str, Any] = dict(learner.args)
    for name, usual in known.items():
        value, most = args.get(name, usual), TABLE[name].in_trial
        if most is not None and isinstance(value, int) and not isinstance(value, bool):
            args[name] = min(value, most)
    if learner.algorithm in ON_POLICY and "n_steps" in args and "batch_size" in args:
        args["batch_size"] = math.gcd(int(args["batch_size"]), int(args["n_steps"]) * copies)
        if args["batch_size"] < 2:
            args["batch_size"] = int(args["n_steps"]) * copies
    return learner.model_copy(
        update={
            "args": args,
            "preset": None,
            "init_from": None,
            "clone_from": None,
            "callbacks": [],
        }
    )


def try_training(workload: Workload, spec: ExperimentSpec, scratch: Path, stop: StopSignal) -> str:
    """See ``TriesTraining.try_training``."""
    short = shortened(spec)
    train, simulator = spec.train, spec.simulator
    if train is not None and simulator is not None and freeze(spec, 0).get("vectorised"):
        must_agree(simulator)
    trial = _Trial(workload, short, scratch, stop)
    context, trained = trial.train()
    written = checkpoints.latest(trial.mailbox, trial.run)
    done = f"trained {as_integer(trained.summary.get('steps')) or 0} steps"
    if written is not None:
        context, trained = trial.train()  # a second attempt begins with the checkpoint
        done += ", wrote and restored a checkpoint"
    trial.evaluate(context, trained, _capped(trial.spec))
    return f"{done}, and acted with the stored policy"


def _capped(spec: ExperimentSpec) -> ExperimentSpec:
    """Ends the evaluated episode: one without an end would take for ever."""
    simulator = spec.simulator
    assert simulator is not None
    limit = Wrapper(name="gymnasium.wrappers:TimeLimit", args={"max_episode_steps": EPISODE})
    wrappers = [limit, *simulator.wrappers]
    changed: SimulatorSpec = simulator.model_copy(update={"wrappers": wrappers})
    return spec.model_copy(update={"simulator": changed})


class _Trial:
    """One run in a store of its own.

    Args:
        workload: Does the work.
        spec: The shortened experiment.
        scratch: An empty folder.
        stop: Ends it.
    """

    def __init__(
        self, workload: Workload, spec: ExperimentSpec, scratch: Path, stop: StopSignal
    ) -> None:
        scratch.mkdir(exist_ok=True)
        seed = spec.seeds[0]
        self.run = run_id(1, seed)
        parameters = run_parameters(spec, run=self.run, seed=seed)
        self._workload, self._scratch, self._stop = workload, scratch, stop
        self.spec = bind(spec, {**parameters, "run_id": self.run, "seed": seed})
        self.mailbox = Mailbox(open_store(str(scratch / "store")), spec.name)
        record = RunRecord(
            run=self.run,
            experiment=spec.name,
            seed=seed,
            parameters=parameters,
            device=spec.resources.device,
            streams=STREAMS,
            choices=workload.freeze(spec, seed),
        )
        self.mailbox.create(f"runs/{self.run}/run.json", record)
        self._attempt = 0

    def train(self) -> tuple[RunContext, PhaseOutcome]:
        """Trains in a new attempt."""
        self._attempt += 1
        context = self._context(Phase.TRAIN, self.spec)
        return context, self._workload.train(context)

    def evaluate(self, trained: RunContext, outcome: PhaseOutcome, spec: ExperimentSpec) -> None:
        """Accepts the result of a training, and evaluates its policy."""
        path = f"{trained.folder}/manifest.json"
        self.mailbox.write(path, outcome.files)
        accepted = Accepted(
            run=self.run,
            phase=Phase.TRAIN,
            attempt=self._attempt,
            status=outcome.status,
            manifest=path,
            manifest_sha256=sha256_hex(outcome.files.to_bytes()),
            summary=outcome.summary,
            started_at=0.0,
            ended_at=0.0,
        )
        self.mailbox.accept(trained.claim, accepted)
        self._workload.evaluate(self._context(Phase.EVALUATE, spec))

    def _context(self, phase: Phase, spec: ExperimentSpec) -> RunContext:
        claim = Claim(
            ticket=ticket_id(self.run, phase),
            attempt=self._attempt,
            worker="check",
            token=str(self._attempt),
            claimed_at=0.0,
        )
        self.mailbox.claim(claim)
        scratch = self._scratch / f"{phase.value}-{self._attempt}"
        scratch.mkdir()
        return RunContext(
            spec=spec,
            run=self.mailbox.run(self.run),
            phase=phase,
            attempt=self._attempt,
            claim=claim,
            mailbox=self.mailbox,
            scratch=scratch,
            stop=self._stop,
        )
