"""The rclpy side that every node shares. It decides nothing and imports no torch."""
