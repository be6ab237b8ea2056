"""This machine: clock, processes, scratch folders, files, redaction. Knows no experiment."""
