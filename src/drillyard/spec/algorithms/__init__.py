"""What a file may say about a learner: the torch-free tables and rules."""
