"""Images that are too small for the usual network get one that fits; others keep theirs."""

import pytest
import torch
from gymnasium import spaces

from drillyard.learners.sb3_build import untrained_policy
from drillyard.learners.small_images import SmallCnn, fitted
from tests.helpers.odd_worlds import ACTIONS, OBSERVATIONS, _image

pytestmark = pytest.mark.heavy


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 7, 7), (1, 8, 40), (3, 35, 35)])
def test_an_image_of_any_size_fits(shape):
    net = SmallCnn(_image(*shape))
    assert net(torch.zeros(2, *shape)).shape == (2, 256)


@pytest.mark.parametrize("name", ["image-36", "image-84", "flat", "dict", "image-to-10"])
def test_what_fits_already_keeps_its_network(name):
    for policy in ("CnnPolicy", "MultiInputPolicy", "MlpPolicy"):
        assert fitted(policy, {}, OBSERVATIONS[name]) == {}


def test_a_network_that_the_user_names_is_kept():
    args = {"policy_kwargs": {"features_extractor_class": "flatten"}}
    assert fitted("CnnPolicy", args, OBSERVATIONS["image-7"]) == {}


@pytest.mark.parametrize(
    ("policy", "space"),
    [
        ("CnnPolicy", _image(3, 7, 7)),
        ("MultiInputPolicy", spaces.Dict({"view": _image(3, 7, 7), "way": spaces.Discrete(4)})),
        (
            "MultiInputPolicy",
            spaces.Dict({"near": _image(3, 7, 7), "far": _image(3, 40, 40)}),
        ),
    ],
)
def test_a_stored_policy_is_rebuilt_with_the_same_network(policy, space):
    one, two = (untrained_policy("ppo", policy, {}, space, ACTIONS["discrete"]) for _ in range(2))
    two.load_state_dict(one.state_dict())
    seen = space.sample()
    assert (one.predict(seen, deterministic=True)[0]) == two.predict(seen, deterministic=True)[0]
