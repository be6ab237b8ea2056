"""Kinds of work that an experiment can do."""
