"""Conformance suites for authors of plug-ins, and test doubles of drillyard's own tests.

Import a suite in your test module, inherit from it, and supply the fixtures that it names.
"""
