"""``drillyard prove``: test in the user's own account what the code assumes about a cloud."""
