"""Conformance suites for authors of plug-ins, and the doubles that our own tests use.

Import a suite in a test module of yours, inherit from it, and supply the fixture it names.
"""
