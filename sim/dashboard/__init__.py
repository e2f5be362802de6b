"""The dashboard: a page in the browser that shows what node and bridge do, and lets a person steer them.

Stands on: bundle, control, control.vision, errors, launching, nodes, nodes.admission, qgf_sim.live, qgf_sim.worlds, reports.
Libraries: cv2, diagnostic_msgs, mujoco, numpy, rcl_interfaces, rclpy, rosgraph_msgs, std_msgs, std_srvs, trimesh, viser,
websockets.
"""
