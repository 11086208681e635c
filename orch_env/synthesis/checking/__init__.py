"""What a request must say, must not give away, and what a set of tasks must keep to."""
