"""The driver: takes one experiment through its phases."""
