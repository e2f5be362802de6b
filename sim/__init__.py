"""Everything that needs MuJoCo, and the processes and the cluster that run it.

Stands on: errors. Libraries: ray.
"""
