"""Episodes and runs: playing, scoring, learning, evaluating, comparing. Nothing here needs ROS, nodes or a simulator."""
