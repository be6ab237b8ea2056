"""The model card of a bundle: its README, with the metadata that the Hugging Face Hub reads.

Format: https://huggingface.co/docs/hub/model-cards (``model-index`` of a reinforcement-learning
model).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ruamel.yaml import YAML

from drillyard.agents.trained import Trained
from drillyard.documents.json_types import JsonObject, JsonView
from drillyard.policies.bundles import Described, Facts
from drillyard.results import formatting
from drillyard.results.model import ExperimentResults, LeaseCost, PolicyScore
from drillyard.results.policies import AGENT, Evaluated, scores

UNSTATED = "not stated by the simulator (its attribute `step_seconds`)"
"""The time between two actions, where the simulator has none."""


def model_card(
    trained: Trained,
    facts: Facts,
    described: Described,
    results: ExperimentResults | None,
) -> str:
    """The text of ``README.md``.

    Args:
        trained: The policy.
        facts: Content of ``bundle.json``.
        described: ``spaces.json``.
        results: Results of its experiment, for the other seeds and the cost; None while there
            are none.
    """
    parts = [
        "---\n" + _yaml(_metadata(trained, facts)) + "---",
        f"# {trained.algorithm} on {_world(trained)}",
        _where_from(trained, facts),
        "## Measured",
        _measured(trained, facts, results),
        "## Use",
        _use(trained, facts),
        _channels(described),
        *_plant(described, facts),
        "## Made with",
        _configuration(trained),
        _cost(trained, results.costs if results is not None else ()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _world(trained: Trained) -> str:
    return trained.spec.simulator.id if trained.spec.simulator is not None else ""


def _yaml(value: JsonView) -> str:
    text = io.StringIO()
    writer: Any = YAML(typ="safe")
    writer.default_flow_style, writer.sort_base_mapping_type_on_output = False, False
    writer.dump(value, text)
    return text.getvalue()


def _metadata(trained: Trained, facts: Facts) -> JsonObject:
    world, agent = _world(trained), trained.evaluation.get("policies", {}).get(AGENT)
    if "chosen" in facts:
        agent = facts["chosen"]["fresh"]
    elif not _evaluated(trained):
        agent = None
    metadata: JsonObject = {
        "library_name": "drillyard",
        "pipeline_tag": "reinforcement-learning",
        "tags": [
            world,
            trained.algorithm,
            "reinforcement-learning",
            "deep-reinforcement-learning",
        ],
    }
    if agent is not None:
        score = f"{agent['mean_return']:.2f} +/- {agent['std_return']:.2f}"
        metadata["model-index"] = [
            {
                "name": trained.algorithm,
                "results": [
                    {
                        "task": {
                            "type": "reinforcement-learning",
                            "name": "reinforcement-learning",
                        },
                        "dataset": {"name": world, "type": world},
                        "metrics": [
                            {
                                "type": "mean_reward",
                                "value": score,
                                "name": "mean_reward",
                                "verified": False,
                            }
                        ],
                    }
                ],
            }
        ]
    return metadata


def _where_from(trained: Trained, facts: Facts) -> str:
    return (
        f"A policy that acts in `{_world(trained)}`, trained by drillyard {facts['drillyard']}: "
        f"experiment `{trained.experiment}`, run `{trained.run}` (seed {trained.seed}), the "
        f"{trained.which} policy, after {trained.step:,} environment steps."
    )


def _measured(trained: Trained, facts: Facts, results: ExperimentResults | None) -> str:
    policies = trained.evaluation.get("policies", {})
    if AGENT not in policies:
        return "Not evaluated."
    listed = scores([Evaluated(1, trained.seed, policies)])
    score, rows = next(p for p in listed if not p.baseline), [p for p in listed if p.baseline]
    another = "not known from one seed"
    if results is not None:
        run = next(r for r in results.runs if r.run == trained.run)
        agents = [p for p in results.agents if p.trial == run.trial and len(p.seeds) > 1]
        rows = [*agents, *(p for p in results.baselines if p.simulator == run.simulator)]
        another = "the line of all seeds" if agents else another
    again: tuple[PolicyScore, ...] = ()
    same = "chosen" in facts and facts["chosen"]["fresh"]["mean_return"] == score.mean_return
    if "chosen" in facts and not same:
        again = scores([Evaluated(1, trained.seed, {AGENT: facts["chosen"]["fresh"]})])
    whose = "this policy" if _evaluated(trained) else "the other policy of this run"
    decimals = formatting.score_decimals([score, *again, *rows])
    table = ["| policy | mean return | 95 % interval | over |", "|---|---|---|---|"]
    if again:  # it was chosen by this number: an interval around it would be too high, too
        score = replace(score, interval=None)
    table.append(_row(f"{whose} (seed {trained.seed})", score, decimals))
    table += [_row("this policy, on fresh episodes", row_score, decimals) for row_score in again]
    for row_score in sorted(rows, key=lambda p: -p.mean_return):
        name = row_score.policy if row_score.baseline else "all seeds of this experiment"
        table.append(_row(name, row_score, decimals))
    sentence = (
        "This policy's interval is over episodes, on seeds that no training has met. What another "
        f"training of the same kind reaches: {another}."
    )
    if same or again:
        sentence = f"{_choice(facts['chosen']['of'], same)} {sentence}"
    return "\n".join(table) + "\n\n" + sentence


def _choice(runs: int, same: bool) -> str:
    """How the policy was chosen, and what its number is worth."""
    if same:
        return (
            f"This policy is the best of {runs} evaluated runs by this number. "
            "Fresh episodes give the same one: nothing in them is drawn by chance."
        )
    return (
        f"This policy is the best of {runs} evaluated runs by the number in "
        "the first line, which is therefore likely to be too high; the second line is of "
        "episodes that chose nothing."
    )


def _evaluated(trained: Trained) -> bool:
    """Whether the evaluation was of this one: a run may have a best and a final policy."""
    return bool(trained.evaluation.get("policy_used", trained.which) == trained.which)


def _row(name: str, one: PolicyScore, decimals: int) -> str:
    return (
        f"| {name} | {formatting.fixed(one.mean_return, decimals)} "
        f"| {formatting.interval(one.interval, decimals)} | {formatting.over(one, decimals)} |"
    )


def _use(trained: Trained, facts: Facts) -> str:
    if facts["format"] != "onnx":
        return (
            f"A training begins with it (`learner: {{algorithm: {trained.algorithm}, init_from: "
            "FOLDER}`), and `drillyard evaluate FOLDER` plays it. Weights, arguments and "
            "normalisation for `drillyard.agents.base.load_policy`; nothing in it is pickled."
        )
    return f"""`act.py` needs numpy and onnxruntime, and nothing of drillyard:

```python
from act import Policy

policy = Policy(".")
{_example(facts)}
```

`policy.act(observation)` takes the simulator's observations, as its wrappers give them:
normalisation and action scaling are in the model. On {facts["checked"]:,} real observations it
acts as the trained network does: {said_difference(facts["largest_difference"])}.

{_c_program(facts)}With drillyard: `drillyard serve FOLDER` puts it behind HTTP,
`drillyard evaluate FOLDER` plays fresh episodes, and `init_from: FOLDER` begins a training with
it."""


def _example(facts: Facts) -> str:
    if not facts.get("seen"):
        return "action = policy.act(observation)"
    middle = {name: float(f"{(a + b) / 2:.4g}") for name, (a, b) in facts["seen"].items()}
    return f"action = policy.act_named({middle})  # by name, in units"


def _c_program(facts: Facts) -> str:
    if "c_difference" not in facts:
        return ""
    found = facts["c_difference"]
    checked = "it was not compared" if found is None else said_difference(found)
    return (
        "`policy.c` and `policy.h` are the same policy in C99, without library, allocation or "
        f"global state ({checked}): `cc -std=c99 -O2 -c policy.c`.\n\n"
    )


def _plant(described: Described, facts: Facts) -> list[str]:
    """What an engineer has to know before the policy commands anything."""
    if not facts.get("seen"):
        return []
    step, hold = described.get("step_s"), described.get("hold")
    units = {c["name"]: c["unit"] for c in described["channels"]["observation"]}
    rows = ["| name | unit | from | to |", "|---|---|---|---|"]
    rows += [f"| {n} | {units[n]} | {a:.6g} | {b:.6g} |" for n, (a, b) in facts["seen"].items()]
    idle = ""
    if hold is not None:
        actions = zip(described["channels"]["action"], hold, strict=True)
        idle = ", such as " + ", ".join(
            f"{c['name']} = {v:g} {c['unit']}".strip() for c, v in actions
        )
    vectors = (
        "**Test vectors**: `test_vectors.csv` has observations and actions of the trained policy "
        "by name, in units. A program that acts as this policy gives the same actions."
    )
    return [
        "## On the plant",
        f"**Sampling time**: {f'{step:g} s' if step else UNSTATED}. The policy is right at no "
        "other.",
        f"**Validity range**: in {facts['checked']:,} steps it met these values. What it does "
        "outside of them was not tested:",
        "\n".join(rows),
        "**Fallback**: the policy has none. Where a value is missing, not finite or outside this "
        f"range, command what is safe{idle}, or let the controller that you trust act.",
        "" if described.get("masks") else vectors,
    ]


def said_difference(largest: float | None) -> str:
    """Describes the largest difference between two policies' actions."""
    return (
        f"largest difference {largest:.1g} of half the action's range"
        if largest
        else ("no difference")
    )


def _channels(described: Described) -> str:
    lines = ["| | name | unit | from | to |", "|---|---|---|---|---|"]
    for kind, channels in described["channels"].items():
        for channel in channels:
            ends = (
                [channel["low"], channel["high"]]
                if channel["values"] is None
                else [channel["values"], ""]
            )
            low, high = ("" if e is None else e for e in ends)
            lines.append(f"| {kind} | {channel['name']} | {channel['unit']} | {low} | {high} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _configuration(trained: Trained) -> str:
    spec = trained.spec
    assert spec.simulator is not None and spec.train is not None and spec.learner is not None
    versions = ", ".join(f"{name} {version}" for name, version in trained.versions.items())
    return (
        "```yaml\n"
        + _yaml(
            {
                "simulator": spec.simulator.model_dump(mode="json"),
                "learner": spec.learner.model_dump(mode="json"),
                "train": spec.train.model_dump(mode="json", exclude_none=True),
                "evaluate": spec.evaluate.model_dump(mode="json", exclude_none=True),
                "seeds": spec.seeds,
            }
        )
        + "```"
        + (f"\n\nVersions: {versions}." if versions else "")
    )


def _cost(trained: Trained, costs: Sequence[LeaseCost]) -> str:
    training = trained.training
    time = formatting.duration(float(training.get("elapsed_s", 0.0)))
    sentence = (
        f"The training took {time}; reproducibility: {training.get('exactness', 'not known')}."
    )
    sums: dict[str, float] = {}
    for cost in costs:
        sums[cost.currency] = sums.get(cost.currency, 0.0) + cost.total
    if not sums:
        return sentence
    money = ", ".join(formatting.money(total, currency) for currency, total in sums.items())
    return f"{sentence} Machines for the whole experiment: {money}."
