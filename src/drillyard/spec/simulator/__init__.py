"""What a file may say about a simulator: lessons and the order of wrappers."""
