"""Q-Guided Flow policies on robots, through ROS 2."""

__version__ = "0.1.0"
