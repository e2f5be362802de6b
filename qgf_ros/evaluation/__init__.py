"""Outcomes of episodes, trials and the search for settings, wherever the episodes run: a robot is tuned here, too.

Stands on: bundle, control, errors, files, reports. Libraries: matplotlib, numpy.
"""
