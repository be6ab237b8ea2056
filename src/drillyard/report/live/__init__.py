"""The page of `drillyard watch`: an experiment while it runs, read from its mailbox alone.

``reader`` reads what is new, ``page`` makes the parts of the page, ``server`` serves them on the
loopback address. Nothing is read while no page is open.
"""
