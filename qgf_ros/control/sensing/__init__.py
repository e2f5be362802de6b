"""What sensors tell beyond one plain quantity: orientations, odometry, inertial units, ranges, transforms and detections.

Stands on: bundle, bundle.messages, errors. Libraries: numpy.
"""
