"""The part of the node that knows no ROS: threads, watchdogs, the gate to the robot, and the tick.

Stands on: bundle, control, control.sensing, control.vision, errors. Libraries: numpy.
"""
