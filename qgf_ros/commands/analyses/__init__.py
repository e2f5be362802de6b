"""The sub-commands of `qgf analyze`, one class and one module each.

Stands on: analysis, bundle, commands.show, control, errors, evaluation, files, guidance, learning.data, learning.export,
qgf_sim.rollouts, reports. Libraries: matplotlib, numpy, rich, tyro.
"""
