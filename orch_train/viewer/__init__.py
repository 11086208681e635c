"""`orch view`: a run's curves and trajectories in a local web page, read-only."""
