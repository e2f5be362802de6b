"""Everything of `qgf_ros` that needs MuJoCo: environments, oracle data, rollouts, the bridge node."""
