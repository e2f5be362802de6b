"""From a checkpoint to a bundle: ONNX graphs with their gradients, held to torch before they are written.

Stands on: bundle, errors, guidance, learning, learning.algorithms, learning.data, learning.vision. Libraries: torch, onnx,
onnxruntime, numpy.
"""
