//! The CNI binary: attaches pods from the state that the agent rendered.
