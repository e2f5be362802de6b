"""The node and an evaluation, timed beside processes that do nothing else.

Stands on: benchmark, bundle, bundle.messages, control, control.sensing, control.vision, errors, evaluation, nodes, qgf_sim,
qgf_sim.rollouts, qgf_sim.worlds, reports, runtime. Libraries: diagnostic_msgs, lifecycle_msgs, numpy, rclpy, sensor_msgs.
"""
