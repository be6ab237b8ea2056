"""Simulators as pure functions, which a learner compiles together with its update.

``protocol`` says what a form is, ``forms`` finds the form of a simulator, ``copies`` steps many
copies, ``program`` has the compiled part. No module of this package imports JAX when it is
imported, except ``program``, because a worker forks before JAX may be imported.
"""
