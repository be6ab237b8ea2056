"""One training of `peers`, in its side's environment: prints when what happened, as one line.

python -m tests.benchmarks.peers_sides SIDE WORLD STEPS SEED FOLDER
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy

from .peers_worlds import COPIES, LAST, SIGNALS, WATCH, WORLDS, World, make

NET = [64, 64]


def plain(module: str, world: World, name: str, steps: int, seed: int, folder: Path) -> None:
    """Stable-Baselines3, or SBX: the script that one would write."""
    import importlib

    import torch
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    torch.set_num_threads(1)
    copies = DummyVecEnv([partial(make, name)] * COPIES)
    copies.seed(seed)
    if world.normalize:
        copies = VecNormalize(copies, gamma=world.args["gamma"])
    policy = "CnnPolicy" if world.image else "MlpPolicy"
    options = {} if world.image else {"net_arch": NET}
    ppo = importlib.import_module(module).PPO
    model = ppo(policy, copies, seed=seed, device="cpu", policy_kwargs=options, **world.args)
    model.learn(steps)


def drillyard(
    engine: str, how: str, world: World, name: str, steps: int, seed: int, folder: Path
) -> None:
    """drillyard's own learner and copies, without the driver around them."""
    import torch
    from stable_baselines3.common.callbacks import BaseCallback

    from drillyard.learners.sb3_build import build
    from drillyard.simulators.make_copies import make_vec
    from drillyard.spec.learning import SimulatorSpec

    class Ends(BaseCallback):
        """The copies are no Gymnasium environments: their ends are read from the model."""

        seen = 0

        def _on_training_start(self) -> None:
            WATCH.begin()

        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            WATCH.steps = self.num_timesteps
            if self.model.ep_info_buffer is None:
                return
            # Compared by identity: a rollout may end with as many episodes as the buffer has.
            known, self.known = getattr(self, "known", []), [*self.model.ep_info_buffer]
            ids = {id(each) for each in known}
            for each in self.known:
                if id(each) not in ids:
                    WATCH.ended(float(each["r"]))

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    numpy.random.seed(seed)
    there: dict[str, object] = {"id": world.inner or "tests.benchmarks.peers_worlds:Catch"}
    if name == "cstr":
        there["lesson"] = {"Cref_signal": {"values": [*SIGNALS]}}
    if world.normalize:
        there["wrappers"] = ["normalize"]
    gamma = world.args["gamma"]
    simulator = SimulatorSpec.model_validate(there)
    copies = make_vec(simulator, COPIES, seed, how=how, streams=2, gamma=gamma)
    model = build("ppo", None, world.args, copies, seed, "cpu", engine)
    model.learn(steps, callback=Ends())


def zoo(world: World, name: str, steps: int, seed: int, folder: Path) -> None:
    """RL Baselines3 Zoo's own `train`, with our hyperparameters in place of its table's."""
    import yaml
    from rl_zoo3 import train

    policy = "CnnPolicy" if world.image else "MlpPolicy"
    settings = {"policy": policy, "n_envs": COPIES, "n_timesteps": steps, **world.args}
    if not world.image:
        settings["policy_kwargs"] = f"dict(net_arch={NET})"
    if world.normalize:
        settings["normalize"] = True
    wanted = folder / "zoo.yml"
    wanted.write_text(yaml.safe_dump({f"peers/{name}-v0": settings}))
    sys.argv = ["train.py", "--algo", "ppo", "--env", f"peers/{name}-v0", "--seed", str(seed)]
    sys.argv += ["--conf-file", str(wanted), "--eval-freq", "-1", "--num-threads", "1"]
    sys.argv += ["--device", "cpu", "--verbose", "0", "-f", str(folder / "zoo")]
    sys.argv += ["--gym-packages", "tests.benchmarks.peers_worlds"]
    train.train()


class AsFloats(gymnasium.ObservationWrapper[Any, Any, Any]):
    """RLlib scales no images."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (36, 36, 1), numpy.float32)

    def observation(self, observation: numpy.ndarray) -> numpy.ndarray:
        """See Gymnasium."""
        return observation.astype(numpy.float32) / 255


class ChannelsFirst(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Sample Factory's convolutions want channels first."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Box(0, 255, (1, 36, 36), numpy.uint8)

    def observation(self, observation: numpy.ndarray) -> numpy.ndarray:
        """See Gymnasium."""
        return numpy.ascontiguousarray(numpy.moveaxis(observation, -1, 0))


def _as_floats(name: str) -> gymnasium.Env[Any, Any]:
    return AsFloats(make(name)) if WORLDS[name].image else make(name)


def _channels_first(name: str, *_: object, **__: object) -> gymnasium.Env[Any, Any]:
    return ChannelsFirst(make(name)) if WORLDS[name].image else make(name)


def rllib(world: World, name: str, steps: int, seed: int, folder: Path) -> None:
    """RLlib with its copies and its learner in this process."""
    import os

    import ray
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.connectors.env_to_module import MeanStdFilter
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.tune.registry import register_env

    os.environ.update(RAY_worker_niceness="0")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    register_env(name, lambda _: _as_floats(name))
    args = world.args
    batch = args["n_steps"] * COPIES
    filters = {"env_to_module_connector": lambda *_, **__: MeanStdFilter()}
    network = (
        DefaultModelConfig(
            conv_filters=[[32, 8, 4], [64, 4, 2], [64, 3, 1]], head_fcnet_hiddens=[512]
        )
        if world.image
        else DefaultModelConfig(
            fcnet_hiddens=NET,
            fcnet_activation="tanh",
            vf_share_layers=False,
            free_log_std=name in ("cstr", "pendulum"),
        )
    )
    model = (
        PPOConfig()
        .environment(name)
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=COPIES,
            rollout_fragment_length=args["n_steps"],
            **(filters if world.normalize else {}),
        )
        .learners(num_learners=0)
        .training(
            lr=args["learning_rate"],
            gamma=args["gamma"],
            lambda_=0.95,
            clip_param=0.2,
            vf_clip_param=float("inf"),
            vf_loss_coeff=0.5,
            entropy_coeff=0.0,
            use_kl_loss=False,
            grad_clip=0.5,
            train_batch_size_per_learner=batch,
            minibatch_size=args["batch_size"],
            num_epochs=args["n_epochs"],
        )
        .rl_module(model_config=network)
        .debugging(seed=seed)
        .build_algo()
    )
    while WATCH.steps < steps:
        model.train()
    model.stop()
    ray.shutdown()


def sample_factory(world: World, name: str, steps: int, seed: int, folder: Path) -> None:
    """Sample Factory in its synchronous mode, in one process."""
    from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
    from sample_factory.envs.env_utils import register_env
    from sample_factory.train import run_rl

    register_env(name, _channels_first)
    args = world.args
    batches = args["n_steps"] * COPIES // args["batch_size"]
    chosen = {
        "env": name,
        "algo": "APPO",
        "train_dir": folder / "sf",
        "experiment": f"{name}-{seed}",
        "restart_behavior": "overwrite",
        "device": "cpu",
        "serial_mode": True,
        "async_rl": False,
        "num_workers": 1,
        "num_envs_per_worker": COPIES,
        "worker_num_splits": 1,
        "rollout": args["n_steps"],
        "recurrence": 1,
        "use_rnn": False,
        "batch_size": args["batch_size"],
        "num_batches_per_epoch": batches,
        "num_epochs": args["n_epochs"],
        "train_for_env_steps": steps,
        "learning_rate": args["learning_rate"],
        "gamma": args["gamma"],
        "gae_lambda": 0.95,
        "ppo_clip_ratio": 0.2,
        "ppo_clip_value": 1e9,
        "exploration_loss_coeff": 0.0,
        "value_loss_coeff": 0.5,
        "max_grad_norm": 0.5,
        "nonlinearity": "tanh",
        "actor_critic_share_weights": world.image,
        "adaptive_stddev": False,
        "normalize_input": world.normalize or world.image,
        "normalize_returns": world.normalize,
        "encoder_conv_architecture": "convnet_simple",
        "with_vtrace": False,
        "seed": seed,
        "stats_avg": 20,
        "save_every_sec": 100_000,
    }
    words = [f"--{key}={value}" for key, value in chosen.items()]
    words += ["--encoder_mlp_layers", *map(str, NET)]
    parser, _ = parse_sf_args(words)
    run_rl(parse_full_cfg(parser, words))
    # It plays on while it ends; only what it trained with counts.
    batch = args["n_steps"] * COPIES
    WATCH.steps = min(WATCH.steps, -(-steps // batch) * batch)


def rejax(world: World, name: str, steps: int, seed: int, folder: Path) -> None:
    """Rejax: simulator, rollouts and updates in one program of JAX; returns by 20 evaluations."""
    import jax
    from rejax import PPO
    from rejax.evaluate import evaluate

    args = world.args
    batch = args["n_steps"] * COPIES

    def note(returns) -> None:
        WATCH.returns.clear()
        for each in returns:
            WATCH.ended(float(each))

    def watch(ppo, state, rng):
        lengths, returns = evaluate(
            ppo.make_act(state),
            rng,
            ppo.env,
            ppo.env_params,
            LAST,
            ppo.env_params.max_steps_in_episode,
        )
        jax.debug.callback(note, returns)
        return lengths, returns

    ppo = PPO.create(
        env=world.inner,
        num_envs=COPIES,
        num_steps=args["n_steps"],
        num_epochs=args["n_epochs"],
        num_minibatches=batch // args["batch_size"],
        learning_rate=args["learning_rate"],
        gamma=args["gamma"],
        gae_lambda=0.95,
        clip_eps=0.2,
        ent_coef=0.0,
        vf_coef=0.5,
        max_grad_norm=0.5,
        total_timesteps=steps,
        eval_freq=batch * 5,
        agent_kwargs={"hidden_layer_sizes": tuple(NET), "activation": "tanh"},
    )
    ppo = ppo.replace(eval_callback=watch)
    WATCH.begin()
    jax.block_until_ready(jax.jit(ppo.train)(jax.random.PRNGKey(seed)))
    jax.effects_barrier()
    WATCH.steps = steps


SIDES = {
    "stable-baselines3": partial(plain, "stable_baselines3"),
    "drillyard sb3": partial(drillyard, "sb3", "vectorised"),
    "drillyard jax": partial(drillyard, "jax", "vectorised"),
    "drillyard compiled": partial(drillyard, "jax", "compiled"),
    "rl-zoo": zoo,
    "sbx": partial(plain, "sbx"),
    "rllib": rllib,
    "sample-factory": sample_factory,
    "rejax": rejax,
}


def main() -> None:
    """Train once."""
    side, name, steps, seed, folder = sys.argv[1:]
    world = WORLDS[name]
    WATCH.threshold = world.threshold
    SIDES[side](world, name, int(steps), int(seed), Path(folder))
    WATCH.report()


if __name__ == "__main__":
    main()
