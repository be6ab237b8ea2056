"""Checks that refuse or warn before money is spent."""
