"""Files that a person names: read within bounds, written in one move, and never replaced unasked.

Stands on: errors. Libraries: yaml.
"""
