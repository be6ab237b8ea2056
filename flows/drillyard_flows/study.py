"""The flow ``study``: trials, and the phases of their runs, as task runs.

The driver chooses and judges the trials; this flow shows them. A trial is a task run, because a
subflow would cost a second each.
"""

from __future__ import annotations

from drillyard_flows import form
from drillyard_flows.experiment import flow_of

study = flow_of("study", form.STUDY_FILE, "Chooses, runs and judges the trials of a study file.")
