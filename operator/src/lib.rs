//! The operator: turns ClusterNetwork and Nodes into one NodeNetwork per node.
