"""A rollout and its update in one compiled program are what they are step by step."""

import os
import sys

import numpy as np
import pytest
import torch

from drillyard.learners.sb3_build import build, describe
from drillyard.simulators import vec_state
from drillyard.simulators.make_copies import make_vec
from drillyard.spec.learning import SimulatorSpec
from tests.helpers.processes import run_process

pytest.importorskip("jax", reason="extra `jax`: pip install 'drillyard[jax]'")

pytestmark = pytest.mark.heavy
PPO = {"n_steps": 12, "batch_size": 12, "n_epochs": 2, "learning_rate": "lin_3e-3"}
SMALL = {"policy_kwargs": {"net_arch": [8]}}
LIMIT = {"name": "time_limit", "args": {"max_episode_steps": 5}}
CASES = {
    "box": ("ppo", {"id": "cstr", "wrappers": [LIMIT, "normalize"]}, {"target_kl": 0.02}),
    "discrete": ("ppo", {"id": "CartPole-v1", "wrappers": [LIMIT]}, {"clip_range_vf": 0.1}),
    "mapping": (
        "a2c",
        {
            "id": "simple-adder",
            "lesson": {"start": {"min": 40, "max": 60}},
            "wrappers": ["normalize"],
        },
        {},
    ),
}


def model_of(name, n=3):
    algorithm, simulator, args = CASES[name]
    venv = make_vec(
        SimulatorSpec.model_validate(simulator), n, 5, gamma=0.99, how="compiled", streams=2
    )
    given = {**(PPO if algorithm == "ppo" else {"n_steps": 12}), **SMALL, **args}
    return build(algorithm, None, given, venv, 1, "cpu", "jax")


def learned(model, rollouts=3):
    torch.manual_seed(4)
    np.random.seed(4)
    model.learn(rollouts * 36)
    return model


@pytest.mark.parametrize("name", CASES)
def test_one_program_computes_what_its_steps_one_by_one_do(name):
    one, other = model_of(name), model_of(name)
    assert one._fused is not None
    other._fused = None  # the host steps the same copies, and updates afterwards
    learned(one), learned(other)
    assert one.num_timesteps == other.num_timesteps == 108
    assert one._n_updates == other._n_updates
    assert [*one.ep_info_buffer] == [
        {key: pytest.approx(value) for key, value in info.items()} for info in other.ep_info_buffer
    ]
    near = {"rtol": 2e-4, "atol": 2e-5}
    for key, tensor in other.policy.state_dict().items():
        np.testing.assert_allclose(one.policy.state_dict()[key], tensor, err_msg=key, **near)
    for part in ("rewards", "values", "log_probs", "advantages", "returns", "episode_starts"):
        ours, theirs = (getattr(m.rollout_buffer, part) for m in (one, other))
        np.testing.assert_allclose(ours, theirs, err_msg=part, rtol=1e-3, atol=1e-4)
    logged, expected = (m.logger.name_to_value for m in (one, other))
    assert logged.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(logged[key], value, err_msg=key, rtol=1e-2, atol=1e-4)
    ours, theirs = (vec_state.normalisation(m.env) for m in (one, other))
    assert (ours is None) == (theirs is None) == ("normalize" not in CASES[name][1]["wrappers"])
    for key in ours or {}:
        np.testing.assert_allclose(ours[key], theirs[key], err_msg=key, rtol=1e-5, atol=1e-6)
    seen = [m._last_obs for m in (one, other)]
    for ours, theirs in zip(
        *(s.values() if isinstance(s, dict) else [s] for s in seen), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_parameters_name_the_version_of_the_simulator():
    found = describe("ppo", model_of("box"))
    assert found["simulator_version"] == 1 and found["acts_with"] == "jax"


def test_a_training_imports_jax_only_after_processes_were_forked():
    code = (
        "import sys\n"
        "from drillyard.learners import sb3, training\n"
        "from drillyard.simulators import make_copies, vec_state\n"
        "from drillyard.simulators.functional import copies, forms\n"
        "from drillyard.spec.learning import SimulatorSpec as S, LearnerSpec as L\n"
        "spec = S(id='CartPole-v1')\n"
        "forms.check_compiled(spec, L(algorithm='ppo', engine='jax'))\n"
        "venv = make_copies.make_vec(spec, 2, 1, how='processes', streams=2)\n"
        "print('jax' in sys.modules)\n"
        "venv.close()\n"
    )
    done = run_process([sys.executable, "-c", code], check=True)
    assert done.stdout.split() == ["False"]


def test_a_second_process_takes_the_programs_of_the_first(tmp_path):
    code = (
        "import hashlib, sys, pathlib\n"
        "from drillyard.spec.algorithms import engines\n"
        "engines.keep_programs(pathlib.Path(sys.argv[1]))\n"
        "from tests.unit.learners.test_jax_fused import learned, model_of\n"
        "import jax\n"
        "found = []\n"
        "jax.monitoring.register_event_listener(lambda event, **_: found.append(event))\n"
        "model = learned(model_of('discrete'))\n"
        "print(found.count('/jax/compilation_cache/cache_hits'))\n"
        "print(hashlib.sha256(model._core.weights.state.tobytes()).hexdigest())\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "programs")]
    # The tests' own folder, which is for all of them, would be taken.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    (none, one), (hits, other) = (
        run_process(words, env=environ, check=True).stdout.split() for _ in range(2)
    )
    assert int(none) == 0 and int(hits) >= 1
    assert one == other
