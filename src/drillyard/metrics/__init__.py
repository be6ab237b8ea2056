"""The curves of a run: streams, following them, and CSV files."""
