"""The built-in backends: one module or folder each, found through entry points."""
