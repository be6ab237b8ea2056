"""Importing this module registers our simulators with Gymnasium.

``gymnasium.make("drillyard.simulators.ids:drillyard/Cstr-v0")`` does so by itself.
"""

from drillyard.simulators import register_gymnasium

register_gymnasium()
