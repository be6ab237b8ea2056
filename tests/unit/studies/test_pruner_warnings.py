"""What Optuna says about seeds that only one of two trials has is nothing for users."""

import warnings

from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.mailbox.records import TrialOutcome, TrialRecord
from drillyard.mailbox.status import Status
from drillyard.spec import ExperimentSpec
from drillyard.studies.objectives import objectives_of
from drillyard.studies.pruning import Judge


def test_a_trial_with_more_seeds_than_the_best_one_is_compared_without_a_warning(monkeypatch):
    study = {
        "chooser": "one-shot",
        "pruner": {"type": "wilcoxon"},
        "objectives": [{"metric": "evaluate/score"}],
    }
    spec = ExperimentSpec.model_validate({"name": "toy", "workload": "mock", "study": study})
    judge = Judge(spec, objectives_of(spec)[0], Mailbox(MemoryStore(), "toy"))
    monkeypatch.setattr(judge, "_by_seed", lambda runs: [(n, 1.0 + n) for n in range(len(runs))])
    best = TrialRecord(number=1, chooser="one-shot", seeds=[1, 2], chosen_at=0.0)
    judge.ended(
        best,
        [1, 2],
        TrialOutcome(number=1, status=Status.SUCCEEDED, values={"evaluate/score": 1.5}),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert judge.look({2: [1, 2, 3]}) == []
