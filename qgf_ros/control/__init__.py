"""From an observation to a command: the contract, the schedule of chunks, the safety envelope, the outputs.

Stands on: bundle, bundle.messages, control.motion, control.sensing, control.vision, errors, files, guidance. Libraries:
numpy, pydantic.
"""
