"""Deterministic simulation: the product's own code, with a virtual clock, from one seed.

One process, one thread. Every thread of the product is a greenlet here, and time passes only
while all of them wait. Services, machines and the network are models that fail as planned.
``python -m tests.simulation --help`` shows how to replay a schedule.
"""
