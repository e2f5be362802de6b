"""What the live graph serves of a bundle's cameras, and what a policy would see of it.

Stands on: bundle, control.vision, errors, files, nodes. Libraries: cv2, numpy.
"""
