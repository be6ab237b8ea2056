"""What each preset reaches: three seeds, evaluated beside the policies that nobody trained.

    python -m tests.benchmarks.presets [--engine sbx] [NAME ...]

Names as `drillyard list presets` gives them; default: all. The sentence in ``presets.yaml`` beside
each preset is what this printed. About two minutes a preset on one core.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import drillyard
from drillyard.spec.presets import table

from . import common

STEPS = {
    "cartpole/ppo": 50_000,
    "cartpole/a2c": 200_000,
    "cartpole/dqn": 50_000,
    "pendulum/sac": 12_000,
    "pendulum/td3": 10_000,
    "pendulum/tqc": 12_000,
    "cstr/ppo": 200_000,
    "cstr/sac": 20_000,
}
SEEDS = [1, 2, 3]
EPISODES = 50
CSTR = {
    "simulator__wrappers": ["normalize"],
    "simulator__lesson": {"Cref_signal": {"values": [1, 2, 3, 4, 5]}},
    "evaluate__lesson": {"Cref_signal": {"values": [1, 2, 3, 4]}},
}
FILE = """\
schema: 1
name: {slug}
simulator: {{id: {simulator}}}
learner: {{algorithm: {algorithm}, preset: {name}, engine: {engine}}}
train: {{steps: {steps}}}
evaluate: {{episodes: {episodes}}}
seeds: {seeds}
baselines: [hold, random]
tracking: {{mlflow: null, tensorboard: false}}
resources: {{workers: {workers}, threads: 1, device: cpu}}
"""


def measure(
    entry: dict[str, object], folder: Path, workers: int = 1, engine: str = "sb3"
) -> tuple[str, str]:
    """Train and evaluate one preset.

    Returns:
        Its name, and the sentence for the table.
    """
    name, when = str(entry["name"]), entry["when"]
    assert isinstance(when, dict)
    simulator, steps = when["simulators"][-1], STEPS[name]
    simulator = "cstr" if "Cstr" in simulator else simulator
    path = folder / f"{name.replace('/', '-')}.yaml"
    path.write_text(
        FILE.format(
            slug=path.stem,
            simulator=simulator,
            algorithm=when["algorithm"],
            name=name,
            steps=steps,
            episodes=EPISODES,
            seeds=SEEDS,
            workers=workers,
            engine=engine,
        )
    )
    extra = CSTR if simulator == "cstr" else {}
    began = time.monotonic()
    found = drillyard.run(
        drillyard.load(path, **extra), store=folder / "store", report=False, flow=False
    ).to_dict()
    minutes = (time.monotonic() - began) / 60
    rows = {p["policy"]: p for p in found["policies"]}
    own = [run["mean_return"] for run in found["runs"]]
    beside = ", ".join(
        f"{p} {rows[p]['mean_return']:.1f}" for p in ("hold", "random") if p in rows
    )
    return name, (
        f"mean return {statistics.mean(own):.1f} after {steps:,} steps over {len(own)} seeds "
        f"({', '.join(f'{v:.1f}' for v in own)}; {EPISODES} episodes each; {beside})  "
        f"[{minutes:.1f} min]"
    )


def main() -> None:
    """Measure the presets named on the command line, and print them."""
    wanted, engine = sys.argv[1:], "sb3"
    if wanted[:1] == ["--engine"]:
        engine, wanted = wanted[1], wanted[2:]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for entry in table():
            if not wanted or entry["name"] in wanted:
                rows.append(measure(entry, Path(name), engine=engine))
                print(*rows[-1], flush=True)
    common.table("presets: what they reach", rows)


if __name__ == "__main__":
    main()
