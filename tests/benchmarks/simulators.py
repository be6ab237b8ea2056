"""Whether ``drillyard check`` predicts the run: a table of worlds and algorithms.

    python -m tests.benchmarks.simulators [--worlds N] [--algorithms ppo,dqn,...] [--steps 2000]
                                      [--only WORLD,...] [--here] [--slow]

Each pair is checked, then trained and evaluated whatever the check said. A pair agrees if the
check approves what trains and refuses, with a fix, what fails. Both are done by the code of the
commands, in processes of their own, forked from one that has imported PyTorch (``--slow``: in new
ones, as the commands do). Prints a row a pair, and the disagreements.

The worlds are Gymnasium's own, those of packages from PyPI, and ours with every kind of space. The
packages are installed into an environment of their own, below the temporary folder; ``--here``
takes the current environment as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import venv
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGES = ("minigrid", "highway-env", "mujoco", "imageio", "box2d", "ale-py", "panda-gym")
GYMNASIUM = (
    "CartPole-v1",
    "Pendulum-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Blackjack-v1",
    "FrozenLake-v1",
    "FrozenLake8x8-v1",
    "CliffWalking-v1",
    "Taxi-v4",
    "LunarLander-v3",
    "BipedalWalker-v3",
    "HalfCheetah-v5",
    "Ant-v5",
    "InvertedPendulum-v5",
    "InvertedDoublePendulum-v5",
    "Hopper-v5",
    "Walker2d-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
    "Pusher-v5",
    "Reacher-v5",
    "Swimmer-v5",
    "LunarLanderContinuous-v3",
    "BipedalWalkerHardcore-v3",
    "CliffWalkingSlippery-v1",
    "phys2d/CartPole-v1",
    "tabular/Blackjack-v0",
    "CarRacing-v3",
)
FOREIGN: tuple[tuple[str, list[Any]], ...] = (
    ("minigrid:MiniGrid-Empty-5x5-v0", []),
    ("minigrid:MiniGrid-Empty-5x5-v0", ["minigrid.wrappers:ImgObsWrapper"]),
    ("minigrid:MiniGrid-DoorKey-5x5-v0", ["minigrid.wrappers:RGBImgObsWrapper"]),
    ("minigrid:MiniGrid-DoorKey-5x5-v0", ["minigrid.wrappers:FlatObsWrapper"]),
    ("highway_env:highway-v0", []),
    ("highway_env:parking-v0", []),
    ("highway_env:racetrack-v0", []),
    ("ale_py:ALE/Pong-v5", []),
    ("panda_gym:PandaReach-v3", []),
)
ODD = "tests.helpers.odd_worlds:World"
SECOND = ("ppo", "a2c", "dqn", "sac", "td3", "ddpg", "double-dqn", "dueling-dqn")
THIRD = ("prioritized-dqn", "rainbow", "trpo", "recurrent-ppo", "qr-dqn", "tqc", "crossq", "ars")
ENGINES = ("ppo@jax", "a2c@jax")
ALGORITHMS = (*SECOND, *THIRD, *ENGINES)
FEW = 20
"""Worlds on which every algorithm is tried."""
LIMIT_S = 180.0
MEMORY = 6 << 30
"""Bytes that a training may use."""


def worlds() -> list[dict[str, Any]]:
    """The worlds as ``simulator:`` of a file; those for every algorithm first."""
    from tests.helpers.odd_worlds import ACTIONS, OBSERVATIONS

    few = ["CartPole-v1", "Pendulum-v1", "Blackjack-v1", "FrozenLake-v1"]
    seen = ["tuple", "dict", "dict-nested", "image-7", "discrete-from-3", "multibinary-2d"]
    seen += ["dict-with-image", "scalar", "empty"]
    done = ["box", "discrete-from-2", "multidiscrete-2d", "multibinary-2d", "box-2d", "dict"]
    first: list[dict[str, Any]] = [{"id": name} for name in few]
    first += [{"id": ODD, "args": {"observation": key}} for key in seen]
    first += [{"id": ODD, "args": {"action": key}} for key in done]
    first += [{"id": ODD, "args": {"observation": "dict-nested", "action": "box"}}]
    more: list[dict[str, Any]] = [{"id": name} for name in GYMNASIUM if name not in few]
    more += [{"id": name, "wrappers": list(given)} for name, given in FOREIGN]
    more += [{"id": ODD, "args": {"observation": k}} for k in OBSERVATIONS if k not in seen]
    more += [{"id": ODD, "args": {"action": k}} for k in ACTIONS if k not in done]
    faults = ("raise", "exit", "crash", "nan", "print", "hang")
    more += [{"id": ODD, "args": {"fault": fault, "at": 30}} for fault in faults]
    more += [{"id": f"tests.helpers.odd_worlds:{kind}"} for kind in ("NoObservationSpace", "made")]
    return [*first, *more]


def shown(world: dict[str, Any]) -> str:
    """A world as text."""
    args = " ".join(f"{k}={v}" for k, v in world.get("args", {}).items())
    wrappers = " ".join(str(w).rpartition(":")[2] for w in world.get("wrappers", []))
    name = "odd" if world["id"] == ODD else world["id"].rpartition("odd_worlds:")[2]
    return " ".join(part for part in (name, args, wrappers) if part)


def file_of(world: dict[str, Any], algorithm: str, steps: int) -> dict[str, Any]:
    """The experiment of a pair."""
    name, _, engine = algorithm.partition("@")
    return {
        "name": "world",
        "simulator": world,
        "learner": {"algorithm": name, "preset": None, **({"engine": engine} if engine else {})},
        "train": {"steps": steps},
        "evaluate": {"episodes": 1},
        "seeds": [1],
        "tracking": {"mlflow": None, "tensorboard": False},
        "budget": {"check_s": 20},
    }


def one(part: str, file: Path) -> None:
    """Check or train in this process; prints one line of JSON."""
    from drillyard.spec.load import load

    loaded = load(file)
    answer: dict[str, Any]
    if part == "check":
        from drillyard.checks.experiment import check

        findings = check(loaded, store=str(file.parent / "runs"), speed=True)
        wrong = [f for f in findings if f.severity == "error"]
        answer = {
            "refused": [f.message for f in wrong],
            "fixed": all(f.fix for f in wrong),
            "trial": [f.message for f in findings if f.subject == "training"],
            "endless": any("never ends" in f.message for f in findings),
        }
    else:
        from drillyard.mailbox.records import Phase
        from drillyard.registry import load as load_registered
        from drillyard.testing.phases import OneRun

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))  # the machine has other users
        workload = load_registered("workloads", "rl")()
        run = OneRun(file.parent / "run", loaded.spec, workload)
        trained = run.phase(Phase.TRAIN)
        answer = {"steps": trained.summary["steps"]}
        tell(answer)
        run.phase(Phase.EVALUATE)
        answer["evaluated"] = True
    tell(answer)


def try_one(part: str, file: Path) -> int:
    """Check or train in this process, and tell how that failed; the exit code."""
    try:
        one(part, file)
    except BaseException as error:
        traceback.print_exc()
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        tell({"failed": said[:200], "bug": is_our_bug(part, error)})
        return 1
    return 0


def is_our_bug(part: str, error: BaseException) -> bool:
    """Whether a command would call it our bug; of a training, whether our own code raised it."""
    from drillyard.cli.exit_codes import exit_code
    from drillyard.errors import ExitCode

    if exit_code(error) is not ExitCode.BUG or isinstance(error, SystemExit):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return part == "check" or "/src/drillyard/" in frames[-1].filename


def tell(answer: dict[str, Any]) -> None:
    """Print an answer, where the process that asked finds it."""
    sys.stdout.write("\n@" + json.dumps(answer) + "\n")
    sys.stdout.flush()


class Forked:
    """Stands in for ``subprocess.Popen`` of the process that tries a training."""

    def __init__(self, command: list[str], **more: Any) -> None:
        reads, writes = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            os.dup2(reads, 0)
            os.dup2(more["stdout"].fileno(), 1)
            os.dup2(more["stdout"].fileno(), 2)
            os.close(writes)
            os.chdir(more["cwd"])
            sys.stdin, sys.argv = os.fdopen(0), command[2:]
            from drillyard.checks.trial_process import main

            main()
        os.close(reads)
        self.stdin = os.fdopen(writes, "wb")
        self._code: int | None = None

    def kill(self) -> None:
        """It has ended before."""

    def wait(self) -> int:
        """The exit code, negative for a signal."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code


def prepare() -> None:
    """Import what every part needs, and let the checks fork although PyTorch is imported."""
    import stable_baselines3
    import torch

    torch.set_num_threads(1)
    import types

    import drillyard.learners.sb3
    import drillyard.workloads.evaluate_phase
    import drillyard.workloads.rl
    from drillyard.checks import trial
    from drillyard.system import watchdog

    del stable_baselines3
    known = {name: module for name, module in sys.modules.items() if name != "torch"}
    watchdog.sys = types.SimpleNamespace(  # type: ignore[attr-defined]
        modules=known, platform=sys.platform, stdout=sys.stdout, stderr=sys.stderr
    )
    trial.subprocess = types.SimpleNamespace(  # type: ignore[attr-defined]
        Popen=Forked, PIPE=subprocess.PIPE
    )
    drillyard.checks.trial._recall = lambda key: None


def forked(part: str, file: Path) -> dict[str, Any]:
    """The answer of a child of this process, or how it failed."""
    began = time.monotonic()
    output = file.parent / f"{part}.txt"
    pid = os.fork()
    if pid == 0:
        os.setsid()
        with open(output, "wb") as to:
            os.dup2(to.fileno(), 1)
            os.dup2(to.fileno(), 2)
        code = try_one(part, file)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        time.sleep(0.05)
        if time.monotonic() - began > LIMIT_S:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            break
    return answered(output.read_text(errors="replace"), time.monotonic() - began)


def answered(text: str, taken: float) -> dict[str, Any]:
    """The answer among the lines of a process."""
    lines = [line for line in text.splitlines() if line.strip()]
    answer: dict[str, Any] = {}
    for line in lines:
        answer |= json.loads(line[1:]) if line.startswith("@{") else {}
    if answer:
        return {**answer, "s": taken}
    return {"failed": lines[-1][:200] if lines else f"nothing within {taken:.0f} s", "s": taken}


def called(part: str, file: Path) -> dict[str, Any]:
    """The answer of a new process, or how it failed."""
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.simulators", "--one", part, str(file)],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "SDL_VIDEODRIVER": "dummy"},
        )
    except subprocess.TimeoutExpired as slow:
        text = slow.stdout or b""
        return answered(text.decode() if isinstance(text, bytes) else text, LIMIT_S)
    return answered(done.stderr + done.stdout, time.monotonic() - began)


def pair(
    world: dict[str, Any],
    algorithm: str,
    steps: int,
    call: Callable[[str, Path], dict[str, Any]],
) -> dict[str, Any]:
    """Check and train one pair."""
    with tempfile.TemporaryDirectory(prefix="drillyard-world-") as folder:
        file = Path(folder) / "world.json"
        file.write_text(json.dumps(file_of(world, algorithm, steps)))
        checked, trained = call("check", file), call("train", file)
    approved = checked.get("refused") == []
    good = "failed" not in checked and (approved or checked.get("fixed"))
    # An episode without an end is warned of; the training itself is not at fault.
    went = "steps" in trained and bool(trained.get("evaluated") or checked.get("endless"))
    return {
        "world": shown(world),
        "algorithm": algorithm,
        "check": checked,
        "run": trained,
        "approved": approved,
        "trained": "steps" in trained,
        "agrees": bool(good and approved == went),
    }


def row(result: dict[str, Any]) -> str:
    """A line of the table."""
    said = (
        "approved"
        if result["approved"]
        else (
            "refused: " + "; ".join(result["check"].get("refused", []))[:90]
            if "failed" not in result["check"]
            else f"BROKE: {result['check']['failed']}"
        )
    )
    run = result["run"]
    if result["trained"]:
        went = f"{run['steps']} steps" + (
            "" if run.get("evaluated") else ", evaluation unfinished"
        )
    else:
        went = f"failed: {run['failed'][:60]}"
    mark = " " if result["agrees"] else "!"
    took = f"{result['check']['s']:.0f} s, {run['s']:.0f} s"
    return f"{mark} {result['algorithm']:<16}{result['world']:<46.46} {said} | {went} | {took}"


def environment() -> Path:
    """An environment with the packages, over the current one; its interpreter."""
    folder = Path(tempfile.gettempdir()) / f"drillyard-worlds-{os.getuid()}"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        site = next(folder.glob("lib/python3*/site-packages"))
        above = [p for p in sys.path if "site-packages" in p]
        lines = [f"import site; site.addsitedir({path!r})" for path in above]
        (site / "above.pth").write_text("\n".join(lines))
    import numpy

    for package in PACKAGES:
        command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        done = subprocess.run(
            [*command, package, f"numpy=={numpy.__version__}"], check=False, capture_output=True
        )
        if done.returncode:
            print(f"{package} cannot be installed here: its worlds are left out")
    return python


def main() -> None:
    """Print the table; with exit code 1 if a pair disagrees."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--worlds", type=int)
    parser.add_argument("--algorithms", default=",".join(ALGORITHMS))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--only", default="")
    parser.add_argument("--here", action="store_true")
    parser.add_argument("--from-world", type=int, default=0)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2)
    given = parser.parse_args()
    if given.one:
        raise SystemExit(try_one(given.one[0], Path(given.one[1])))
    if not given.here:
        python = environment()
        rest = [a for a in sys.argv[1:] if a != "--here"]
        command = [str(python), "-m", "tests.benchmarks.simulators", "--here", *rest]
        raise SystemExit(subprocess.run(command, check=False).returncode)
    names = [name for name in given.only.split(",") if name]
    call = called
    if not given.slow:
        prepare()
        call = forked
    results = []
    every = worlds()[given.from_world : given.worlds]
    for number, algorithm in enumerate(given.algorithms.split(",")):
        chosen = every if number == 0 and algorithm == "ppo" else every[:FEW]
        for world in (w for w in chosen if not names or shown(w) in names):
            results.append(pair(world, algorithm, given.steps, call))
            print(row(results[-1]), flush=True)
            if given.json:
                given.json.write_text(json.dumps(results, indent=1))
    counts = Counter((r["approved"], r["trained"]) for r in results)
    broke = [r for r in results if "failed" in r["check"]]
    bugs = [r for r in results if r["check"].get("bug") or r["run"].get("bug")]
    wrong = [r for r in results if not r["agrees"]]
    print(
        f"\n{len(results)} pairs of {len({r['world'] for r in results})} worlds and "
        f"{len({r['algorithm'] for r in results})} algorithms: {counts[True, True]} approved and "
        f"trained, {counts[False, False]} refused and failed, {len(wrong)} disagreements, "
        f"{len(broke)} checks that broke, {len(bugs)} bugs in drillyard"
    )
    raise SystemExit(1 if wrong or bugs else 0)


if __name__ == "__main__":
    main()
