"""The simulation bridge: an environment, or a recording of one, as a robot on ROS topics.

Stands on: bundle, control, control.vision, errors, launching, learning.data, nodes, nodes.admission, qgf_sim.worlds. Libraries:
geometry_msgs, mujoco, numpy, rcl_interfaces, rclpy, rosgraph_msgs, sensor_msgs, std_msgs, std_srvs, tf2_msgs.
"""
