"""Checkpoints of the published code, read without unpickling and turned into bundles.

Stands on: bundle, errors, files, learning.data, learning.export. Libraries: onnxruntime, numpy, pydantic.
"""
