"""The ROS 2 nodes of policy and recorder: parameters, messages, publishers and services.

Stands on: bundle, bundle.messages, control, control.sensing, control.vision, errors, launching, loop, nodes.admission,
recording, runtime. Libraries: builtin_interfaces, control_msgs, diagnostic_msgs, geometry_msgs, numpy, rcl_interfaces,
rclpy, sensor_msgs, std_msgs, std_srvs, trajectory_msgs, yaml.
"""
