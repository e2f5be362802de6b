"""The algorithm of the paper over two protocols, velocity field and critic: no files, no models, no ROS.

Stands on: errors. Libraries: numpy.
"""
