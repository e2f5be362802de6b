"""A bundle on ONNX Runtime: sessions, the fused fast path, and the policy that infers action chunks.

Stands on: bundle, control, errors, guidance, launching. Libraries: numpy, onnx, onnxruntime.
"""
