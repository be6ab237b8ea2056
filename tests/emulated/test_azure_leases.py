"""Leases on Azure with random faults and killed drivers: nothing lost, nothing left."""

import pytest

pytest.importorskip("azure.ai.ml")

from tests.emulated.test_gcp_leases import swept
from tests.helpers.azure_lab import needs_azurite

pytestmark = needs_azurite()


@pytest.mark.slow
@pytest.mark.parametrize("count", [4, 200])
@pytest.mark.timeout(5400)
def test_no_result_is_lost_and_no_job_or_cluster_left(count):
    """Drivers killed and some never started again, lost answers, 429, 503, nodes taken away."""
    rows = swept("azure_leases", str(count), "1")
    assert rows["results lost"] == f"0 of {3 * count}"
    assert rows["jobs, nodes and clusters left"] == "0"
