"""Between ROS 2 and the pure packages: messages, parameters, QoS, diagnostics and the control thread."""
