"""The published rewards and ours, by name."""
