"""Between ROS 2 and the pure packages: messages, parameters, QoS, diagnostics. Nothing here decides anything."""
