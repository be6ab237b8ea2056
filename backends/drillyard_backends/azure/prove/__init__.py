"""What `drillyard prove azure` tests: assumptions of ``azure/ASSUMPTIONS.md``."""

from drillyard_backends.azure.prove.prover import AzureProver

__all__ = ["AzureProver"]
