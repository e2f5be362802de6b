"""Everything that needs MuJoCo, and the processes that run it.

Stands on: errors. Libraries: none.
"""
