"""What the sub-commands print: tables, cards, progress; and the types of their arguments.

Stands on: benchmark, bundle, control, errors, evaluation, qgf_sim.rollouts, reports. Libraries: docstring_parser, rich,
tyro.
"""
