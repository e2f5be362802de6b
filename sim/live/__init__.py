"""Episodes over a running ROS graph: the demo, and tuning with the bridge or a robot.

Stands on: bundle, control, errors, evaluation, nodes, qgf_sim, qgf_sim.bridge, reports. Libraries: diagnostic_msgs, numpy,
rcl_interfaces, rclpy, sensor_msgs, std_msgs, std_srvs.
"""
