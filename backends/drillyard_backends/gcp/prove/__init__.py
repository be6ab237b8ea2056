"""What `drillyard prove gcp` tests: assumptions of ``gcp/ASSUMPTIONS.md``, in the user's project."""

from drillyard_backends.gcp.prove.prover import GcpProver

__all__ = ["GcpProver"]
