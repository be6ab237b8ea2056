"""Places that rent capacity: one module or folder each, found through entry points."""
