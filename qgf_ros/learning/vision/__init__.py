"""Pictures become features: the encoder, how it is trained with the policy, and the features of a whole data set.

Stands on: bundle, errors, files, learning, learning.algorithms, learning.data. Libraries: torch, numpy.
"""
