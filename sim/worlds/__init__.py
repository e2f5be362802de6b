"""OGBench's environments behind a robot's interface, domain shift, and oracle data from them.

Stands on: bundle, control, control.vision, errors, files, learning.data, qgf_sim, reports. Libraries: dm_control, gymnasium,
mujoco, numpy, ogbench.
"""

import os

# Whoever imports MuJoCo imports a GL back end, which fails where none is installed; physics needs none. What a person chose
# is kept, for child processes as well, until the first picture is asked for: see `headless`.
os.environ.setdefault("QGF_MUJOCO_GL", os.environ.get("MUJOCO_GL", ""))
os.environ["MUJOCO_GL"] = "disable"
