//! The node agent: makes this node's kernel match its NodeNetwork, and keeps it so.
