"""Outcomes of episodes, trials, the search for settings and what is claimed of methods, wherever the episodes run.

Stands on: bundle, control, errors, files, reports. Libraries: matplotlib, numpy.
"""
