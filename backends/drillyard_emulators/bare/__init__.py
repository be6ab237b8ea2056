"""Bare machines: a root filesystem of their own in namespaces of their own, with a small network.

What an emulated machine lacks beside a real one shows only where nothing of the developer's own
computer is there to help: no Python, no package, no proxy, no environment, no way to the internet.
"""
