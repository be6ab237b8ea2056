"""Plug-ins as their authors make them: built as wheels, installed, found, broken, filled in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from drillyard.authoring.scaffold import write
from drillyard.errors import ConfigError, UserError
from tests.helpers import rules
from tests.helpers.processes import run_process

BIN = Path(sys.executable).parent

FILLED = {
    "workload": {
        1: """
            result = {"score": 0.0}
            for step in range(20):
                context.stop.check()
                result["score"] += (seed + step) / 10
                context.progress(step=step + 1, total=20)
            result["gain"] = float(parameters.get("gain", 1))
        """,
        2: 'metrics = {"score": result["score"] * result["gain"]}',
    },
    "learner": {
        1: 'arguments: dict[str, Any] = {"spread": 0.5}',
        2: """
            size = int(np.prod(observation.shape))
            return {"w": rng.normal(size=(size, int(action.n))),
                    "best": np.zeros((size, int(action.n))), "score": np.full(1, -1e9)}
        """,
        3: """
            flat = observations.reshape(len(observations), -1)
            return np.argmax(flat @ weights["w"], axis=1)
        """,
        4: """
            score = sum(reward for _, _, reward in episode)
            best, top = weights["best"], weights["score"]
            if score >= top[0]:
                best, top = weights["w"].copy(), np.full(1, score)
            noise = args["spread"] * rng.normal(size=best.shape)
            return {"w": best + noise, "best": best, "score": top}
        """,
    },
    "backend": {
        1: 'folder: str = Field(description="Where the provider keeps its records.")',
        2: """
            good = Path(self.config.folder).is_dir()
            return [Finding(Severity.OK if good else Severity.ERROR, self.kind,
                            f"records in {self.config.folder}", None if good else "make it")]
        """,
        3: """
            path = Path(self.config.folder) / f"{order.lease_id}.json"
            try:
                with path.open("x") as file:
                    file.write(order.model_dump_json())
            except FileExistsError:
                pass
            provider = {"record": str(path)}
        """,
        4: """
            there = (Path(self.config.folder) / f"{lease.lease_id}.json").exists()
            return Liveness.ALIVE if there else Liveness.GONE
        """,
        5: 'yield from [f"console of {lease.lease_id}"][since:]',
        6: '(Path(self.config.folder) / f"{lease.lease_id}.json").unlink(missing_ok=True)',
        7: """
            for path in Path(self.config.folder).glob("dy-*.json"):
                text = path.read_text()
                if text:
                    order = Order.from_bytes(text.encode())
                    yield Lease(lease_id=order.lease_id, backend=self.kind, order=order,
                                provider={"record": str(path)}, created_at=0.0)
        """,
        8: "return AccessDenied(what) if isinstance(error, PermissionError) else None",
    },
}


def fill(text: str, parts: dict[int, str]) -> str:
    """What an author types into the marked parts."""
    for number, code in parts.items():
        pattern = rf"^( *)# FILL IN \({number}\)(?:.*\n)*?\1# END OF IT\n"
        found = re.search(pattern, text, re.MULTILINE)
        assert found, number
        lines = textwrap.indent(textwrap.dedent(code).strip(), found[1])
        text = text[: found.start()] + lines + "\n" + text[found.end() :]
    assert "END OF IT" not in text
    return text


def filled(kind: str, name: str, folder: Path) -> Path:
    """A scaffold with its parts filled in."""
    made = write(kind, name, folder)
    text = fill(made.module.read_text(), FILLED[kind])
    if kind == "backend":
        text = text.replace("from typing", "from pathlib import Path\nfrom typing", 1)
        test = made.folder / "tests" / f"test_{name.replace('-', '_')}.py"
        test.write_text(test.read_text().replace("return {}", 'return {"folder": str(tmp_path)}'))
    made.module.write_text(text)
    return made.folder


def installed(package: Path, target: Path) -> dict[str, str]:
    """Build a wheel, install it into a folder; the environment of processes that see it."""
    wheels = package.parent / f"{package.name}-wheels"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    quiet = {"capture_output": True, "text": True, "timeout": 240}
    built = subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(package)],
        **quiet,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = wheels.glob("*.whl")
    put = subprocess.run(
        [
            *pip,
            "install",
            "--no-deps",
            "--no-build-isolation",
            "--target",
            str(target),
            str(wheel),
        ],
        **quiet,
    )
    assert put.returncode == 0, put.stderr
    return {**os.environ, "PYTHONPATH": rules.path(target)}


def drillyard(env, *words, folder=None, code=0):
    done = run_process([str(BIN / "drillyard"), *words], env=env, cwd=folder)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def suite(package: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return run_process(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests"],
        cwd=package,
        env=env,
    )


@pytest.mark.parametrize("kind", sorted(FILLED))
def test_a_scaffold_passes_its_suite_once_filled_in(kind, tmp_path):
    empty = write(kind, f"empty-{kind}", tmp_path).folder
    before = suite(empty, {**os.environ, "PYTHONPATH": rules.path(empty)})
    assert before.returncode == 1, before.stdout + before.stderr  # tests ran, and failed
    package = filled(kind, f"my-{kind}", tmp_path)
    env = installed(package, tmp_path / "site")
    after = suite(package, env)
    assert after.returncode == 0, after.stdout + after.stderr
    assert " passed" in after.stdout and " failed" not in after.stdout
    found = json.loads(drillyard(env, "list", "plugins", "--json").stdout)
    (row,) = [r for r in found if r["name"] == f"my-{kind}"]
    assert row["kind"] == f"{kind}s" and row["package"] == f"my-{kind}" and not row["problem"]


def test_the_scaffold_of_a_simulator_passes_its_suite_as_it_is(tmp_path):
    package = write("simulator", "tank-farm", tmp_path).folder
    env = installed(package, tmp_path / "site")
    after = suite(package, env)
    assert after.returncode == 0, after.stdout + after.stderr
    assert " passed" in after.stdout and " failed" not in after.stdout
    found = json.loads(drillyard(env, "list", "plugins", "--json").stdout)
    (row,) = [r for r in found if r["name"] == "tank-farm"]
    assert row["kind"] == "simulators" and not row["problem"]


def test_a_plugged_in_workload_runs_by_its_name(tmp_path):
    env = installed(filled("workload", "my-sums", tmp_path), tmp_path / "site")
    (tmp_path / "sums.yaml").write_text(
        "name: sums\nworkload: my-sums\nparameters: {const_args: {gain: 3}}\n"
        "seeds: [4]\ntracking: {mlflow: null}\n"
    )
    program = (
        "import drillyard\n"
        "found = drillyard.run('sums.yaml', store='store', report=False, flow=False)\n"
        "print(found.status)\n"
    )
    done = run_process([sys.executable, "-c", program], cwd=tmp_path, env=env)
    assert done.stdout.strip() == "SUCCEEDED", done.stdout + done.stderr
    (metrics,) = (tmp_path / "store/sums/runs/t0001-s4/attempts").rglob("metrics.json")
    expected = 3 * sum((4 + step) / 10 for step in range(20))
    assert json.loads(metrics.read_text())["score"] == pytest.approx(expected)


def test_what_a_plug_ins_learner_does_not_honour_is_refused_at_once(tmp_path):
    """By field, value and line, before anything is created; what it declares is accepted."""
    package = filled("learner", "my-learner", tmp_path)
    module = package / "my_learner/learner.py"
    declared = re.sub(r"    honours = .*\n", "", module.read_text())
    declared += """

class Silent(MyLearner):
    def check(self, spec, observation, action):
        return []


class Copies(Silent):
    honours = ("train.n_envs", "learner.args")
"""
    module.write_text(declared)
    env = installed(package, tmp_path / "site")
    (tmp_path / "e.yaml").write_text(
        textwrap.dedent("""
        name: e
        simulator: {id: CartPole-v1, wrappers: [normalize, {name: frame_stack, args: {n: 4}}]}
        learner:
          algorithm: my_learner.learner:Silent
          args: {spraed: 1}
          init_from: run:other/t0001-s1
          callbacks: [my_module:Mine]
        train:
          steps: 600
          n_envs: 8
          stop: {patience: 3}
        evaluate:
          episodes: 2
          every: {steps: 100}
          keep_best: 3
        """)
    )
    done = drillyard(env, "run", "e.yaml", "--json", folder=tmp_path, code=2)
    errors = json.loads(done.stdout)["errors"]
    refused = {error["field"]: (error["line"], error["value"]) for error in errors}
    assert set(refused) == {
        "simulator.wrappers[0]",
        "simulator.wrappers[1]",
        "learner.args.spraed",
        "learner.init_from",
        "learner.callbacks",
        "train.n_envs",
        "train.stop",
        "evaluate.every.steps",
        "evaluate.keep_best",
    }
    assert (
        refused["train.n_envs"] == (11, 8) and refused["simulator.wrappers[1]"][1] == "frame_stack"
    )
    allowed = {error["field"]: error["allowed"] for error in errors}
    assert allowed.pop("learner.args.spraed") == "none" and all(error["hint"] for error in errors)
    assert set(allowed.values()) == {
        "train.checkpoint_every, train.steps with my_learner.learner:Silent"
    }
    assert not (tmp_path / "drillyard-runs").exists()

    (tmp_path / "e.yaml").write_text(
        "name: e\nsimulator: {id: CartPole-v1}\ntrain: {steps: 600, n_envs: 8}\n"
        "learner: {algorithm: 'my_learner.learner:Copies', args: {spraed: 1}}\n"
    )
    assert json.loads(drillyard(env, "check", "e.yaml", "--json", folder=tmp_path).stdout)["ok"]


def test_a_throw_away_package_with_a_broken_part(tmp_path):
    """Found, shown with its traceback, told when it clashes; `module:name` registers itself."""
    package = tmp_path / "odds-and-ends"
    (package / "odds").mkdir(parents=True)
    (package / "pyproject.toml").write_text(
        textwrap.dedent("""
        [build-system]
        requires = ["hatchling>=1.25"]
        build-backend = "hatchling.build"
        [project]
        name = "odds-and-ends"
        version = "1.0"
        [project.entry-points."drillyard.learners"]
        broken = "odds.broken:Learner"
        ppo = "odds:World"
        needy = "odds.needy:Learner"
        [project.entry-points."drillyard.backends"]
        leaky = "odds.broken:Backend"
        [project.entry-points."drillyard.commands"]
        polish = "odds.broken:register"
        [project.entry-points."drillyard.simulators"]
        odd-world = "odds:World"
        [tool.hatch.build.targets.wheel]
        packages = ["odds"]
    """)
    )
    (package / "odds/broken.py").write_text("limit = 3\nassert limit == 4, 'four is needed'\n")
    (package / "odds/needy.py").write_text("import not_on_this_machine\n")
    (package / "odds/__init__.py").write_text(
        textwrap.dedent("""
        import drillyard
        from gymnasium.envs.classic_control import CartPoleEnv
        class World(CartPoleEnv):
            pass
        class Other(CartPoleEnv):
            pass
        twice = Other
        drillyard.register("simulators", "quiet", "odds:Other")
        drillyard.register("simulators", "twice", "odds:World")
    """)
    )
    env = installed(package, tmp_path / "site")

    rows = json.loads(drillyard(env, "list", "plugins", "--json").stdout)
    problems = {row["name"]: row["problem"] for row in rows}
    assert problems["odd-world"] is None
    assert "four is needed" in problems["broken"] and "Traceback" in problems["broken"]
    assert "broken.py" in problems["broken"]
    assert "'ppo' is a built-in learner" in problems["ppo"]

    def check(simulator, code):
        (tmp_path / "e.yaml").write_text(
            f"name: e\nsimulator: {{id: '{simulator}'}}\nlearner: {{algorithm: ppo}}\n"
            "train: {steps: 4096}\ntracking: {mlflow: null}\n"
        )
        return drillyard(env, "check", "e.yaml", "--json", folder=tmp_path, code=code).stdout

    assert json.loads(check("odd-world", 0))["ok"]
    assert json.loads(check("odds:quiet", 0))["ok"]  # registered by importing `odds`
    assert json.loads(check("odds:World", 0))["ok"]
    assert "is ambiguous" in check("odds:twice", 2)
    assert "has no 'Wrold'" in check("odds:Wrold", 2)

    # Asked for by name, a broken one is shown with the line that broke; nothing was created.
    check("odd-world", 0)
    for verb, option in (("check", "learner.algorithm=broken"), ("run", "backend=leaky")):
        done = drillyard(env, verb, "e.yaml", "--set", option, folder=tmp_path, code=2)
        said = done.stdout + done.stderr
        assert "Traceback (most recent call last)" in said, said
        assert "broken.py" in said and "assert limit == 4" in said
        assert "odds-and-ends is broken" in said and "install" not in said.split("fix:")[0]
    done = drillyard(
        env, "check", "e.yaml", "--set", "learner.algorithm=needy", folder=tmp_path, code=2
    )
    assert "install not_on_this_machine" in done.stdout
    assert "assert limit == 4" in drillyard(env, "polish", code=2).stderr
    assert "Traceback" not in drillyard(env, "polisch", code=2).stderr
    assert not (tmp_path / "drillyard-runs").exists()


def test_a_scaffold_never_overwrites(tmp_path):
    there = tmp_path / "my-world"
    there.mkdir()
    (there / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match="already exists"):
        write("simulator", "my-world", tmp_path)
    assert [p.name for p in there.iterdir()] == ["precious.txt"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("learner", n)
        for n in (
            "Ppo",
            "_x",
            "x_",
            "x-",
            "1x",
            "a--b",
            "a b",
            "",
            "../x",
            "ä",
            "class",
            "json",
            "drillyard",
            "drillyard-x",
            "ppo",
            "numpy",
            "a" * 60,
            "tests",
        )
    ]
    + [("simulator", "cstr"), ("backend", "local"), ("workload", "rl")],
)
def test_illegal_names_are_refused_with_all_rules(kind, name, tmp_path):
    with pytest.raises(ConfigError) as error:
        write(kind, name, tmp_path)
    assert "lower-case letters" in str(error.value) and error.value.hint
    assert not list(tmp_path.iterdir())
