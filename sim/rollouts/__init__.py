"""Closed loops in process: batches of episodes, studies over them, films of them.

Stands on: analysis, bundle, control, control.vision, errors, evaluation, files, guidance, qgf_sim, qgf_sim.worlds, reports,
runtime. Libraries: av, numpy, PIL.
"""
