"""What the safety envelope knows of a moving robot: how it is brought to rest, and whether it follows.

Stands on: bundle. Libraries: numpy.
"""
