"""Numbers, statistics, figures and where a result comes from, for whoever reports one.

Stands on: bundle, files, guidance. Libraries: matplotlib, numpy.
"""
