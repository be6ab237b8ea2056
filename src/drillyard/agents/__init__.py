"""What acts in a simulator: the policy protocol, baselines, weight files, spaces as JSON."""
