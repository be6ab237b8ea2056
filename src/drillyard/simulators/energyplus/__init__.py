"""EnergyPlus as a simulator: ``simulator: {id: energyplus, args: {model: …, weather: …}}``.

``building_model`` reads and changes a model, ``simulation`` runs the engine step by step,
``plant`` is the simulator.
"""
