"""The model card of a bundle: its README, with the metadata that the Hugging Face Hub reads.

Format: https://huggingface.co/docs/hub/model-cards (``model-index`` of a reinforcement-learning
model).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML

from drillyard.policies.trained import Trained


def model_card(
    trained: Trained, facts: Mapping[str, Any], described: Mapping[str, Any]
) -> str:  # fmt: skip
    """The text of ``README.md``.

    Args:
        trained: The policy.
        facts: Of ``bundle.json``.
        described: ``spaces.json``.
    """
    spec, agent = trained.spec, trained.evaluation.get("policies", {}).get("agent")
    assert spec.simulator is not None and spec.train is not None and spec.learner is not None
    world = spec.simulator.id
    out = io.StringIO()
    out.write("---\n" + _yaml(_metadata(trained, agent)) + "---\n\n")
    out.write(f"# {trained.algorithm} on {world}\n\n")
    out.write(
        f"A policy that acts in `{world}`, trained by drillyard {facts['drillyard']}: experiment "
        f"`{trained.experiment}`, run `{trained.run}` (seed {trained.seed}), the {trained.which} "
        f"policy, after {trained.step:,} environment steps.\n\n"
    )
    out.write("## Measured\n\n")
    out.write(_scores(trained, agent))
    out.write("\n## Use\n\n")
    if facts["format"] == "onnx":
        out.write(
            "`act.py` needs numpy and onnxruntime, and nothing of drillyard:\n\n```python\n"
            "from act import Policy\n\npolicy = Policy(\".\")\naction = policy.act(observation)\n"
            "```\n\nObservations are the simulator's, as its wrappers give them: normalisation "
            f"and action scaling are in the model. On {facts['checked']:,} real observations it "
            f"acts as the trained network does, to {facts['largest_difference']:.1g} of half "
            "the action's range.\n\n"
        )  # fmt: skip
    else:
        out.write(
            "Weights, arguments and normalisation, for `drillyard.learners.base.load_policy`. "
            "Nothing in it is pickled.\n\n"
        )
    out.write(_channels(described))
    out.write("\n## Made with\n\n```yaml\n")
    parts = {
        "simulator": spec.simulator.model_dump(mode="json"),
        "learner": spec.learner.model_dump(mode="json"),
        "train": spec.train.model_dump(mode="json", exclude_none=True),
    }
    out.write(_yaml(parts) + "```\n\n")
    minutes = float(trained.training.get("elapsed_s", 0.0)) / 60
    out.write(f"Training took {minutes:.1f} minutes; {trained.training.get('exactness', '')}.\n")
    return out.getvalue()


def _yaml(value: Any) -> str:
    text = io.StringIO()
    writer: Any = YAML(typ="safe")
    writer.default_flow_style, writer.sort_base_mapping_type_on_output = False, False
    writer.dump(value, text)
    return text.getvalue()


def _metadata(trained: Trained, agent: Mapping[str, Any] | None) -> dict[str, Any]:
    world = trained.spec.simulator.id if trained.spec.simulator else ""
    found: dict[str, Any] = {
        "library_name": "drillyard",
        "tags": [
            world,
            trained.algorithm,
            "reinforcement-learning",
            "deep-reinforcement-learning",
        ],
    }
    if agent is not None:
        score = f"{agent['mean_return']:.2f} +/- {agent['std_return']:.2f}"
        found["model-index"] = [{
            "name": trained.algorithm,
            "results": [{
                "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
                "dataset": {"name": world, "type": world},
                "metrics": [{"type": "mean_reward", "value": score, "name": "mean_reward",
                             "verified": False}],
            }],
        }]  # fmt: skip
    return found


def _scores(trained: Trained, agent: Mapping[str, Any] | None) -> str:
    policies = trained.evaluation.get("policies", {})
    if agent is None:
        return "Not evaluated.\n"
    lines = [
        "| policy | mean return | 95 % interval over episodes | episodes |",
        "|---|---|---|---|",
    ]
    for name, one in sorted(policies.items(), key=lambda p: -p[1]["mean_return"]):
        ends = one.get("ci95")
        interval = "" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"
        lines.append(f"| {name} | {one['mean_return']:.2f} | {interval} | {one['n_episodes']} |")
    lines.append("")
    lines.append(
        f"One training (seed {trained.seed}): how much another seed would differ is not in this "
        "interval; `drillyard results` of the experiment has all seeds."
    )
    return "\n".join(lines) + "\n"


def _channels(described: Mapping[str, Any]) -> str:
    lines = ["| | name | unit | from | to |", "|---|---|---|---|---|"]
    for kind, own in described["channels"].items():
        for one in own:
            ends = [one["low"], one["high"]] if one["values"] is None else [one["values"], ""]
            low, high = ("" if e is None else e for e in ends)
            lines.append(f"| {kind} | {one['name']} | {one['unit']} | {low} | {high} |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""
