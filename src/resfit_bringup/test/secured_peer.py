"""As secured_peer.cpp, by a ROS node: `secured_peer.py NODE|none pub|sub TOPIC`.

The environment says where the keys are; a node lives in the enclave of its name.
"""

import sys
import threading

import rclpy
from std_msgs.msg import Int32


def main() -> int:
    node_name, role, topic = sys.argv[1:4]
    inside = [] if node_name == "none" else ["--ros-args", "--enclave", f"/{node_name}"]
    rclpy.init(args=inside)
    node = rclpy.create_node("stranger" if node_name == "none" else node_name)
    try:
        if role == "pub":
            out = node.create_publisher(Int32, topic, 10)
            node.create_timer(0.05, lambda: out.publish(Int32()))
        else:
            node.create_subscription(Int32, topic, lambda _: print("heard", flush=True), 10)
    except Exception:
        print("refused", "writer" if role == "pub" else "reader", flush=True)
        return 3
    print("ready", flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), rclpy.shutdown()), daemon=True).start()
    rclpy.spin(node)
    return 0


if __name__ == "__main__":
    sys.exit(main())
