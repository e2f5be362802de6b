"""The dashboard: one page in the browser that shows what policy node and bridge do, and lets a person steer them.

`state` knows what the page shows, `graph` is its ROS side, `scene` poses the robot, `page` draws all of it with viser.
"""
