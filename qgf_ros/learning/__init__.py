"""A training run, whatever the algorithm: trainer, checkpoints, resumption. Below: data, algorithms; above: export, published.

Stands on: bundle, errors, files, learning.algorithms, learning.data. Libraries: torch, safetensors, numpy.
"""
