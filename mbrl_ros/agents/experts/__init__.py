"""Who demonstrates: scripted experts and a person at the keyboard. Knows no ROS."""
