"""What a bundle is: its contract and manifest, its files on disk, and where it is found.

Stands on: bundle.messages, errors, files, guidance. Libraries: numpy, pydantic.
"""
