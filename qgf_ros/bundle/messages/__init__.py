"""The message types that observations are read from, what can be taken out of each, and what a field of it must name.

Stands on: none. Libraries: none.
"""
