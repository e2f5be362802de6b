"""What is known of a kind of robot: topics, joints, limits and controllers, and the robot contract they make of a bundle.

Stands on: bundle, control, errors. Libraries: pydantic.
"""
