"""OGBench's environments behind a robot's interface, domain shift, and oracle data from them.

Stands on: bundle, control, errors, files, learning.data, qgf_sim, reports. Libraries: dm_control, gymnasium, mujoco, numpy,
ogbench.
"""
