"""What a training leaves behind, how it stops, and what it refuses. In this process."""

import io
import itertools
import json
import typing
import zipfile

import numpy as np
import pytest

from drillyard.agents.base import load_policy, policy_file_names
from drillyard.errors import ConfigError, CorruptObject, RunFailed, Stopped
from drillyard.mailbox.status import Cause
from drillyard.metrics import streams
from drillyard.runs import checkpoints
from drillyard.runs.workload import StopSignal
from drillyard.workloads.rl import RlWorkload
from tests.helpers import resume_runner

RUN = resume_runner.RUN
PPO = {"n_steps": 32, "batch_size": 32}
SMALL = {
    "learning_starts": 10,
    "buffer_size": 100,
    "batch_size": 8,
    "policy_kwargs": {"net_arch": [16]},
}
DRIFT = "tests.helpers.resume_worlds:Drift"


def case(algorithm="ppo", args=None, simulator=None, **more):
    return {
        "simulator": {"id": DRIFT, **(simulator or {})},
        "learner": {"algorithm": algorithm, "args": PPO if args is None else args},
        "train": {"steps": 320, "n_envs": 2, "checkpoint_every": 100},
        "tracking": {"tensorboard": False},
        **more,
    }


@pytest.fixture
def run(tmp_path):
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield _starter(tmp_path)
    torch.set_num_threads(threads)


def _starter(tmp_path):
    def start(case, attempt=1, **more):
        scratch = tmp_path / f"scratch{attempt}"
        scratch.mkdir(exist_ok=True)
        context = resume_runner.context(tmp_path / "store", case, attempt, scratch=scratch, **more)
        return context, lambda: RlWorkload().train(context)

    return start


def contents(context, outcome):
    store = context.mailbox.store
    return {n: store.get(context.mailbox.key(e.key)) for n, e in outcome.files.files.items()}


@pytest.mark.parametrize(
    ("algorithm", "args", "simulator"),
    [
        (
            "ppo",
            {
                "n_steps": 32,
                "batch_size": 32,
                "use_sde": True,
                "policy_kwargs": {"net_arch": {"pi": [16], "vf": [8]}, "activation_fn": "elu"},
            },
            {"wrappers": ["normalize"]},
        ),
        ("a2c", {}, {"args": {"dict_observation": True}}),
        ("dqn", SMALL, {"args": {"discrete": True}}),
        ("ddpg", SMALL, {}),
        ("td3", SMALL, {}),
        ("sac", {**SMALL, "use_sde": True}, {}),
    ],
)
def test_a_policy_is_rebuilt_without_a_pickle(run, monkeypatch, algorithm, args, simulator):
    import stable_baselines3 as sb3

    every = {"every": {"steps": 100, "episodes": 2}}
    context, train = run(case(algorithm, args, simulator, evaluate=every))
    outcome = train()
    files = contents(context, outcome)
    assert {"final_model.zip", "best_model.zip", "learner.json", "spaces.json"} <= set(files)
    assert ("normalisation_best.npz" in files) == bool(simulator.get("wrappers"))
    parameters = outcome.summary["parameters"]
    assert parameters["algorithm"] == algorithm and parameters["n_envs"] == 2
    if algorithm == "ppo":
        assert parameters["net_arch"] == {"pi": [16], "vf": [8]}
        assert parameters["activation_fn"] == "ELU" and parameters["learning_rate"] == 3e-4
    json.dumps(outcome.summary)

    # Written for other tools: SB3 itself opens the zips, and acts the same.
    kind = getattr(sb3, algorithm.upper())
    for which in ("best", "final"):
        theirs = kind.load(io.BytesIO(files[f"{which}_model.zip"]), device="cpu")
        assert zipfile.is_zipfile(io.BytesIO(files[f"{which}_model.zip"]))
        with monkeypatch.context() as patch:
            patch.setattr("pickle.loads", None)
            patch.setattr("pickle.load", None)
            ours = load_policy(
                {n: files[n] for n in policy_file_names(which) if n in files}, which
            )
        theirs.observation_space.seed(1)
        for _ in range(20):
            observation = theirs.observation_space.sample()
            np.testing.assert_array_equal(
                ours(observation), theirs.predict(observation, deterministic=True)[0]
            )
        if simulator.get("wrappers"):
            assert ours.normalisation["obs_mean"].shape == (3,)
    evaluations = streams.read_stream(context.mailbox, RUN, "evaluation", 1)
    best = max(evaluations, key=lambda x: x["metrics"]["eval/mean_reward"])
    assert outcome.summary["best"] == {
        "step": best["step"],
        "mean_return": best["metrics"]["eval/mean_reward"],
    }


def test_another_policys_weights_are_refused(run):
    context, train = run(case())
    files = contents(context, train())
    assert "policy_best.safetensors" not in files
    with pytest.raises(CorruptObject, match="missing"):
        load_policy(files, "best")
    description = json.loads(files["learner.json"])
    description["args"] = {"policy_kwargs": {"net_arch": [3]}}
    with pytest.raises(CorruptObject, match="weights"):
        load_policy({**files, "learner.json": json.dumps(description).encode()}, "final")


def test_a_stop_writes_a_checkpoint_where_the_rollout_ends(run):
    stop = StopSignal()

    def progress(**values):
        if values.get("checkpoint_step") == 256:
            stop.set(Cause.CANCELLED, "enough")

    context, train = run(
        case(
            args={"n_steps": 64, "batch_size": 32},
            train={"steps": 2000, "n_envs": 2, "checkpoint_every": 128},
        ),
        stop=stop,
        progress=progress,
    )
    with pytest.raises(Stopped, match="enough"):
        train()
    # A thread writes checkpoints, so the training may have gone on for some rollouts.
    (stopped_at, _), (before, _) = checkpoints.found(context.mailbox, RUN)[:2]
    assert stopped_at % 128 == 0 and before == stopped_at - 128 >= 256
    assert checkpoints.read_meta(context.mailbox, RUN, 1, stopped_at).info["stopped"]
    meta = checkpoints.read_meta(context.mailbox, RUN, 1, before)
    assert meta.barrier == before // 128 and meta.stream_offsets["train"] > 0
    plan = {"steps": stopped_at + 128, "n_envs": 2, "checkpoint_every": 128}
    context, train = run(case(args={"n_steps": 64, "batch_size": 32}, train=plan), 2)
    outcome = train()
    assert outcome.summary["resumed_step"] == stopped_at
    assert outcome.summary["steps"] == stopped_at + 128


@pytest.mark.parametrize(
    ("what", "words"),
    [("observation", r"observation\[2\]"), ("reward", "reward")],
)
def test_numbers_that_are_not_finite_stop_the_run(run, what, words):
    from tests.helpers.resume_worlds import Breaks

    Breaks.made = -1  # one is made before the copies, to see whether it can be saved
    world = {"id": "tests.helpers.resume_worlds:Breaks", "args": {"what": what}}
    # In one process, because the class counts its copies.
    plan = {"steps": 320, "n_envs": 2, "checkpoint_every": 100, "copies": "one-by-one"}
    context, train = run(case(simulator=world, train=plan))
    where = r"at step \d+ of episode \d+ \(copy 1, reset with seed \d+\)"
    with pytest.raises(RunFailed, match=rf"{words}, {where}") as raised:
        train()
    place = {"observation": "training step 60, run seed 7", "reward": "run seed 7"}[what]
    assert any(place in note for note in raised.value.__notes__)
    assert checkpoints.found(context.mailbox, RUN) == []


def test_a_diverging_learner_does_not_overwrite_its_checkpoint(run):
    args = {"n_steps": 32, "batch_size": 32, "learning_rate": 1e30, "max_grad_norm": 1e30}
    context, train = run(case(args=args))
    with pytest.raises(RunFailed, match="seed 7"):
        train()
    assert checkpoints.found(context.mailbox, RUN) == []


def test_a_budget_in_episodes(run):
    plan = {"train": {"episodes": 6, "n_envs": 2, "checkpoint_every": 64}}
    context, train = run(case("a2c", {"n_steps": 4}, **plan))
    summary = train().summary
    assert summary["ended_by"] in ("episodes", "steps") and summary["episodes"] >= 6
    assert summary["steps"] <= 3 * 2 * 40
    lines = streams.read_stream(context.mailbox, RUN, "episodes", 1)
    assert len(lines) == summary["episodes"]


def test_a_budget_in_seconds_is_labelled(run):
    plan = {"train": {"steps": 10_000_000, "n_envs": 2, "max_time_s": 0.5}}
    _, train = run(case("a2c", {}, **plan))
    summary = train().summary
    assert summary["ended_by"] == "max_time_s" and "not reproducible" in summary["exactness"]
    assert summary["elapsed_s"] >= 0.5 and summary["steps"] < 10_000_000


class Counting:
    """A user's callback of our kind."""

    points: list = []  # noqa: RUF012

    def on_point(self, step, metrics):
        self.points.append((step, metrics["rollout/episodes"]))


def test_callbacks_of_the_user_are_called(run):
    Counting.points.clear()
    learner = {
        "algorithm": "a2c",
        "args": {},
        "callbacks": [
            f"{__name__}:Counting",
            "stable_baselines3.common.callbacks:StopTrainingOnNoModelImprovement",
        ],
    }
    context, train = run(case(learner=learner))
    with pytest.raises(TypeError):  # needs arguments: the user's own mistake, in his words
        train()
    learner["callbacks"] = [f"{__name__}:Counting"]
    context, train = run(case(learner=learner), 2)
    train()
    lines = streams.read_stream(context.mailbox, RUN, "train", 2)
    assert [p[0] for p in Counting.points] == [x["step"] for x in lines]
    learner["callbacks"] = ["json:JSONDecoder"]
    _, train = run(case(learner=learner), 3)
    with pytest.raises(ConfigError, match="not a callback class"):
        train()


class Threshold:
    """A callback with arguments."""

    made: typing.ClassVar[list] = []

    def __init__(self, level, factor=1.0):
        Threshold.made.append((level, factor))

    def on_point(self, step, metrics):
        pass


def test_callbacks_take_arguments(run):
    from drillyard.spec import ExperimentSpec

    path = f"{__name__}:Threshold"

    def learner(**args):
        return {"algorithm": "a2c", "args": {}, "callbacks": [{"id": path, "args": args}]}

    Threshold.made.clear()
    _, train = run(case(learner=learner(level=0.5, factor=2.0)))
    train()
    assert Threshold.made == [(0.5, 2.0)]
    for args, words in (({"levle": 1}, "levle"), ({}, "level")):
        bad = resume_runner.experiment(case(learner=learner(**args)))
        with pytest.raises(ConfigError, match=words) as refused:
            RlWorkload().check(bad, None)
        assert refused.value.field == "learner.callbacks[0].args"
        assert "level, factor" in refused.value.allowed
    # One without arguments is recorded as it was before there were any.
    plain = resume_runner.experiment(case(learner={"algorithm": "a2c", "callbacks": [path]}))
    dumped = plain.model_dump(mode="json")["learner"]["callbacks"]
    assert dumped == [path]
    assert ExperimentSpec.model_validate(plain.model_dump(mode="json")) == plain


class StopAfter(StopSignal):
    """Asks for a stop when it was looked at so often: once a step of all copies."""

    def __init__(self, looks):
        super().__init__()
        self.limit = looks

    @property
    def requested(self):
        if self.looks + 1 == self.limit:
            self.set(Cause.PREEMPTION, "taken away")
        return super().requested


def scalars(folder, metric):
    """What TensorBoard shows of a folder of event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return [(e.step, e.value) for e in events.Scalars(metric)]


def test_event_files_have_the_curve_and_a_resumed_one_is_whole_and_not_doubled(run, tmp_path):
    metric = "rollout/ep_len_mean"
    many = {"steps": 320, "n_envs": 2, "checkpoint_every": 100, "log_interval": 32}
    settings = case(tracking={"tensorboard": True}, train=many)
    context, train = run(settings, 1, stop=StopAfter(100))
    with pytest.raises(Stopped):
        train()
    store = tmp_path / "store"
    first, second = (
        store / context.mailbox.key(f"runs/{RUN}/attempts/train-{n}/tensorboard") for n in (1, 2)
    )
    killed = scalars(first, metric)  # also of a run that did not end well
    assert killed and killed[-1][0] <= 200
    context, train = run(settings, 2)
    outcome = train()
    lines = streams.read_stream(context.mailbox, RUN, "train", 2)
    whole = [
        (x["step"], pytest.approx(x["metrics"][metric])) for x in lines if metric in x["metrics"]
    ]
    assert scalars(second, metric) == whole
    assert len({step for step, _ in whole}) == len(whole)
    # A point of the attempt before; the stop checkpoint lies later, between two points.
    assert whole[0][0] <= outcome.summary["resumed_step"]
    assert whole[-1][0] == 320
    assert {n for n in outcome.files.files if n.startswith("tensorboard/")} == {
        f"tensorboard/{path.name}" for path in second.iterdir()
    }


def test_event_files_grow_while_the_streams_do(tmp_path):
    from drillyard.learners.event_files import EVERY_S, EventFiles
    from drillyard.mailbox import Mailbox, open_store
    from drillyard.testing.clock import FakeClock

    clock = FakeClock()
    box = Mailbox(open_store(str(tmp_path / "store")), "grow")
    events = EventFiles(box, RUN, 1, clock=clock)
    writer = streams.StreamWriter(box, RUN, 1, clock=clock, on_flushed=events.take)
    folder = tmp_path / "store" / box.key(f"runs/{RUN}/attempts/train-1/tensorboard")
    seen = []
    for step in range(1, 7):
        writer.append("train", step, {"loss": step / 2})
        clock.advance(EVERY_S / 2 + 0.1)
        writer.flush()
        seen.append(len(scalars(folder, "loss")) if folder.exists() else 0)
    assert seen == [0, 2, 2, 4, 4, 6]
    assert len(list(folder.iterdir())) == 3
    for _ in range(200):  # the longer it goes, the rarer
        writer.append("train", 7, {"loss": 0.0})
        clock.advance(3600.0)
        writer.flush()
    assert len(list(folder.iterdir())) < 203
    writer.append("train", 8, {"loss": 1.0})
    writer.flush()
    assert set(events.finish()) == {f"tensorboard/{p.name}" for p in folder.iterdir()}
    assert scalars(folder, "loss")[-1] == (8, 1.0)


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_old_checkpoints_go_and_what_they_share_stays(run, algorithm):
    off = {"args": SMALL, "simulator": {"args": {"discrete": True}}} if algorithm == "dqn" else {}
    many = {"steps": 640, "n_envs": 2, "checkpoint_every": 64}
    one = case(algorithm, train={**many, "keep_checkpoints": 1}, **off)
    context, train = run(one, 1, stop=StopAfter(120))
    with pytest.raises(Stopped):
        train()
    box = context.mailbox
    ((resumed, _),) = checkpoints.found(box, RUN)
    context, train = run(case(algorithm, train={**many, "keep_checkpoints": 2}, **off), 2)
    outcome = train()
    assert outcome.summary["resumed_step"] == resumed
    kept = checkpoints.found(box, RUN)
    # The two newest, and the one that the attempt went on from: the streams are cut there.
    assert [attempt for _, attempt in kept] == [2, 2, 1]
    assert kept[-1] == (resumed, 1)
    points = streams.read_stream(box, RUN, "episodes", 2)
    assert [x["seq"] for x in points] == list(range(len(points)))
    for step, attempt in kept:  # nothing that they name is gone
        meta = checkpoints.read_meta(box, RUN, attempt, step)
        for entry in meta.files.values():
            assert box.store.stat(box.key(entry.key)).size == entry.size
    named = {
        box.key(e.key)
        for s, a in kept
        for e in checkpoints.read_meta(box, RUN, a, s).files.values()
    }
    there = {
        i.key
        for i in box.store.list(box.key(f"runs/{RUN}/attempts/"))
        if "/checkpoints/" in i.key and not i.key.endswith("manifest.json")
    }
    assert there == named
    assert checkpoints.latest(box, RUN).meta.step == kept[0][0]


def test_progress_is_told(run):
    told = []
    _, train = run(case(), progress=lambda **v: told.append(v) if "step" in v else None)
    train()
    assert told[-1]["step"] == 320 and told[-1]["total"] == 320
    assert told[-1]["episodes"] > 0 and told[-1]["checkpoint_step"] is not None
    assert all(a["step"] <= b["step"] for a, b in itertools.pairwise(told))


def test_time_left_is_told_where_there_is_a_limit(run):
    told = []
    limited = {"steps": 320, "n_envs": 2, "max_time_s": 1000.0}
    _, train = run(
        case(train=limited), progress=lambda **v: told.append(v) if "step" in v else None
    )
    train()
    assert 900 < told[-1]["time_left_s"] <= 1000
