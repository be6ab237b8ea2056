"""The worlds of the table, and the experiment of a pair."""

from __future__ import annotations

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
FEWER: dict[str, dict[str, Any]] = {
    **{name: {"n_epochs": 2} for name in ("ppo", "recurrent-ppo")},
    **{
        name: {"train_freq": 20, "gradient_steps": 1}
        for name in ("sac", "td3", "ddpg", "tqc", "crossq")
    },
    **{
        name: {"train_freq": 20}
        for name in ("dqn", "double-dqn", "dueling-dqn", "prioritized-dqn", "rainbow", "qr-dqn")
    },
}
"""Arguments that only make updates fewer: a table of defaults takes three times as long."""

World = dict[str, Any]
"""``simulator:`` of a file."""


def worlds() -> list[World]:
    """The worlds; those for every algorithm first."""
    from tests.helpers.odd_worlds import ACTIONS, OBSERVATIONS

    few = ["CartPole-v1", "Pendulum-v1", "Blackjack-v1", "FrozenLake-v1"]
    seen = ["tuple", "dict", "dict-nested", "image-7", "discrete-from-3", "multibinary-2d"]
    seen += ["dict-with-image", "scalar", "empty"]
    done = ["box", "discrete-from-2", "multidiscrete-2d", "multibinary-2d", "box-2d", "dict"]
    first: list[World] = [{"id": name} for name in few]
    first += [{"id": ODD, "args": {"observation": key}} for key in seen]
    first += [{"id": ODD, "args": {"action": key}} for key in done]
    first += [{"id": ODD, "args": {"observation": "dict-nested", "action": "box"}}]
    more: list[World] = [{"id": name} for name in GYMNASIUM if name not in few]
    more += [{"id": name, "wrappers": list(given)} for name, given in FOREIGN]
    more += [{"id": ODD, "args": {"observation": k}} for k in OBSERVATIONS if k not in seen]
    more += [{"id": ODD, "args": {"action": k}} for k in ACTIONS if k not in done]
    faults = ("raise", "exit", "crash", "nan", "print", "hang")
    more += [{"id": ODD, "args": {"fault": fault, "at": 30}} for fault in faults]
    more += [{"id": f"tests.helpers.odd_worlds:{kind}"} for kind in ("NoObservationSpace", "made")]
    return [*first, *more]


def pairs(algorithms: list[str]) -> list[tuple[World, str]]:
    """``ppo`` on all worlds, every other algorithm on the first ones."""
    every = worlds()
    return [
        (world, algorithm)
        for algorithm in algorithms
        for world in (every if algorithm == "ppo" else every[:FEW])
    ]


def shown(world: World) -> str:
    """A world as text."""
    args = " ".join(f"{k}={v}" for k, v in world.get("args", {}).items())
    wrappers = " ".join(str(w).rpartition(":")[2] for w in world.get("wrappers", []))
    name = "odd" if world["id"] == ODD else world["id"].rpartition("odd_worlds:")[2]
    return " ".join(part for part in (name, args, wrappers) if part)


def file_of(world: World, algorithm: str, steps: int) -> dict[str, Any]:
    """The experiment of a pair."""
    name, _, engine = algorithm.partition("@")
    learner = {"algorithm": name, "preset": None, "args": FEWER.get(name, {})}
    return {
        "name": "world",
        "simulator": world,
        "learner": {**learner, **({"engine": engine} if engine else {})},
        "train": {"steps": steps},
        "evaluate": {"episodes": 1},
        "seeds": [1],
        "tracking": {"mlflow": None, "tensorboard": False},
        "budget": {"check_s": 20},
    }
