"""The published rewards and ours, each by name."""
