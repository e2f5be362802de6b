"""Times a tick, an update and the node beside peers; random_bundle, peers_torch and training import torch.

Stands on: analysis, bundle, control, control.vision, errors, guidance, learning, learning.algorithms, learning.data,
learning.export, learning.vision, reports, runtime. Libraries: jax, matplotlib, numpy, onnx, torch.
"""
