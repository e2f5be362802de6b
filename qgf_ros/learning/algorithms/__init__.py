"""The training algorithms, one file each: networks, losses and what is exported; `options` has what each is told.

Stands on: bundle, errors, learning.data. Libraries: torch.
"""
