"""How processes are started and what people give them: executables, extras, parameter files, launch arguments.

Stands on: bundle, control, errors. Libraries: yaml.
"""
