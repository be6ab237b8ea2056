"""``drillyard new``: a package for a plug-in that passes its conformance suite once filled in."""

from drillyard.scaffold.write import Scaffold, check_name, write

__all__ = ["Scaffold", "check_name", "write"]
