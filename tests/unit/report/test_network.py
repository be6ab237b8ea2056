"""The policy's network as the report draws it, from real policies."""

from __future__ import annotations

import json
import struct

import pytest

from drillyard.errors import CorruptObject
from drillyard.report import network


def stored(shapes: dict[str, list[int]]) -> bytes:
    """A safetensors file as far as it is read."""
    header = json.dumps({k: {"dtype": "F32", "shape": v} for k, v in shapes.items()}).encode()
    return struct.pack("<Q", len(header)) + header


def test_a_real_policy_is_drawn_from_its_weights():
    import gymnasium
    from safetensors.torch import save
    from stable_baselines3 import PPO

    env = gymnasium.make("CartPole-v1")
    model = PPO("MlpPolicy", env, policy_kwargs={"net_arch": [32, 16]}, device="cpu")
    found = network.layers(save(model.policy.state_dict()))
    widths = {p: [row[0].inputs, *(one.outputs for one in row)] for p, row in found.items()}
    assert widths == {
        "mlp_extractor.policy_net": [4, 32, 16, 2],
        "mlp_extractor.value_net": [4, 32, 16, 1],
    }
    drawn = network.picture(found)
    for text in ("mlp_extractor.policy_net", ">32<", ">16<"):
        assert text in drawn.inline and text in drawn.narrow
    env.close()


def test_images_and_targets():
    found = network.layers(
        stored(
            {
                "q_net.features_extractor.cnn.0.weight": [32, 4, 8, 8],
                "q_net.features_extractor.cnn.0.bias": [32],
                "q_net.q_net.0.weight": [6, 512],
                "q_net_target.q_net.0.weight": [6, 512],
            }
        )
    )
    assert list(found) == ["q_net.features_extractor.cnn", "q_net.q_net"]
    assert found["q_net.features_extractor.cnn"][0].kernel == "8x8"


@pytest.mark.parametrize("header", ["no", "[]", '{"a": 1}', '{"a": {"dtype": "F32"}}'])
def test_another_file_is_refused(header):
    with pytest.raises(CorruptObject):
        network.layers(struct.pack("<Q", len(header)) + header.encode())
    with pytest.raises(CorruptObject):
        network.layers(header.encode())


def test_where_labels_leave_no_room_on_a_phone_the_wide_picture_stays():
    from drillyard.report import study_pictures

    assert study_pictures.importances({"level": 1.0}).narrow
    crowded = study_pictures.importances({"a very long name of a parameter " * 4: 1.0})
    assert crowded.inline and crowded.narrow == ""
