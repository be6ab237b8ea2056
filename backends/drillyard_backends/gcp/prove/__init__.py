"""What `drillyard prove gcp` tests: assumptions of ``gcp/ASSUMPTIONS.md``."""

from drillyard_backends.gcp.prove.prover import GcpProver

__all__ = ["GcpProver"]
