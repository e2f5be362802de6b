"""Training data made of recordings: which command answers which observation, and how each episode ended.

Stands on: bundle, control, control.vision, errors, files, recording. Libraries: numpy.
"""
