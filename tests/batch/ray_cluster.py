"""Start a Ray cluster on the loopback interface: a head without CPUs, and worker nodes.

As a program (`python ray_cluster.py NODES`) it prints the address to stdout. `node` or `head` on stdin kills
one, and the end of stdin ends all. It runs in a separate process, because Ray's settings apply to a whole
process.
"""

import os
import sys

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def main(nodes: int) -> None:
    """Start the cluster and execute the commands on stdin."""
    from ray.cluster_utils import Cluster

    small = {"node_ip_address": "127.0.0.1", "object_store_memory": 100_000_000, "include_dashboard": False}
    config = {"health_check_period_ms": 1000}  # a dead node is noticed after 5 s instead of 15 s
    cluster = Cluster(True, head_node_args={**small, "num_cpus": 0, "_system_config": config})
    workers = [cluster.add_node(wait=False, num_cpus=1, **small) for _ in range(nodes)]
    cluster.wait_for_nodes(60)
    print(cluster.address, flush=True)
    for line in sys.stdin:
        node = workers.pop() if line.strip() == "node" else cluster.head_node
        cluster.remove_node(node, allow_graceful=False)
        print("gone", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
