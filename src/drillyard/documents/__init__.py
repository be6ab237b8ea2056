"""YAML and JSON text to values with line numbers. Knows no experiment."""
