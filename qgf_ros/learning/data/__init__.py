"""What is trained on: data sets, their contract, the chunks cut from them, and goals in hindsight.

Stands on: bundle, errors, files. Libraries: torch, numpy, pydantic, PIL.
"""
