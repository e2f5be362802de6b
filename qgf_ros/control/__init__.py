"""From an observation to a command: the contract, the schedule of chunks, the safety envelope, the outputs.

Stands on: bundle, control.motion, errors, files, guidance. Libraries: numpy, pydantic.
"""
