"""Writes and explains experiment files and plug-in packages."""
