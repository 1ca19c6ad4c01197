"""The ZED camera without ROS: sources, framing, watch, and the loop that joins them."""
