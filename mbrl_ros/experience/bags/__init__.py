"""Recordings: MCAP bags that `ros2 bag` and Foxglove open; a crash loses no message that was written before it."""
