"""The sub-commands of `qgf benchmark`, one class and one module each.

Stands on: benchmark, bundle, commands.show, control, errors, files, qgf_sim.benchmark, qgf_sim.rollouts, reports,
runtime. Libraries: rich, tyro.
"""
