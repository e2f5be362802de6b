"""The paper's studies: numbers from a bundle's primitives, and the figures drawn from them.

Stands on: bundle, control, errors, guidance, learning.data, reports, runtime. Libraries: matplotlib, numpy, onnx.
"""
