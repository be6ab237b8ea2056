"""Help with writing experiment files: generate, explain, new."""
