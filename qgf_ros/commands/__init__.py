"""The sub-commands of `qgf`, one module each; importing them is cheap, as what is heavy is imported inside.

Stands on: analysis, bundle, commands.analyses, commands.show, control, control.profiles, errors, evaluation,
files, learning, learning.algorithms, learning.data, learning.export, learning.published, nodes, nodes.cameras, qgf_sim,
qgf_sim.live, qgf_sim.rollouts, qgf_sim.worlds, recording, recording.rows, reports, runtime. Libraries: matplotlib, numpy,
rclpy, rich, torch, tyro.
"""
