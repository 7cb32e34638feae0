"""Running ROS 2 launch files without ROS 2's own launch.

The files have ROS 2's YAML format. This package reads the part of the format that its own files use, with the same meaning, and
refuses everything else by name, with file and line. Three modules read a file, and a fourth runs it:

    source       YAML with line numbers, typed access, unknown keys refused
    actions      the tree of actions that the file declares, every branch checked
    description  arguments filled in, conditions decided: the flat list of processes to run
    supervisor   the processes, from start to stop

No module here imports `rclpy`, because the supervisor must outlive every node.
"""
