"""What the sub-commands print: tables, cards, progress; and the types of their arguments.

Stands on: benchmark, bundle, control, evaluation, qgf_sim.rollouts, reports. Libraries: rich, tyro.
"""
