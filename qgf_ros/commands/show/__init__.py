"""What the sub-commands print: tables, cards, progress; and the types of their arguments.

Stands on: benchmark, bundle, control, errors, evaluation, learning, learning.algorithms, learning.data, learning.vision,
qgf_sim, qgf_sim.rollouts, qgf_sim.worlds, reports. Libraries: docstring_parser, rich, torch, tyro.
"""
