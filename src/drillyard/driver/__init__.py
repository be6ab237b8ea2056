"""The control loop of one experiment."""
