"""Which parameter values a node lets in: by name, by type and by range, at its start and from others.

Stands on: errors, launching. Libraries: rcl_interfaces, rclpy, yaml.
"""
