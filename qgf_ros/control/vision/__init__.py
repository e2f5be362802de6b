"""What cameras deliver: pictures held to their contract, decoded, and cut to what the policy sees.

Stands on: bundle, errors. Libraries: cv2, numpy, pydantic.
"""
