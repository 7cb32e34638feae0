"""Running ROS 2 launch files where ROS 2's own launch is not installed.

The files are ROS 2's, in its YAML form; this package reads the subset of the format that ours use, with the same meaning,
and refuses everything else by name, with file and line. A file is read in three steps, each of which can be tested alone:

    source       YAML with line numbers, typed access, unknown keys refused
    actions      the tree of actions that the file declares, every branch checked
    description  arguments filled in, conditions decided: the flat list of processes to run
    supervisor   those processes, from start to stop

Nothing here imports `rclpy`: the supervisor outlives any node.
"""
