"""One run, frozen: its identity, its code archive, its checkpoints and its logs."""
