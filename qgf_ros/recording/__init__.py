"""Runs of the policy node in MCAP files: written, read, replayed, and made into training data.

Stands on: bundle, control, errors. Libraries: lz4, mcap, mcap_ros2, numpy, pydantic, zstandard.
"""
