"""Functional mock-up units (FMI 2.0 and 3.0) as simulators: ``simulator.id: plant.fmu``.

``archive`` checks the file before anything in it is executed. ``description`` has the names,
units and ranges of the model, ``instance`` one running model, ``plant`` the simulator.
"""
