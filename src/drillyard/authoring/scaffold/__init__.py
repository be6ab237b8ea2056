"""Scaffolds: packages of plug-ins, and experiments around simulators that are there."""

from drillyard.authoring.scaffold.write import Scaffold, around, check_name, write

__all__ = ["Scaffold", "around", "check_name", "write"]
