"""Runs of the policy node in MCAP files: written, read, and replayed; `rows` makes training data of them.

Stands on: bundle, control, control.sensing, control.vision, errors. Libraries: lz4, mcap, mcap_ros2, numpy, pydantic, zstandard.
"""
