"""Which output feeds which argument, found in traces and in the cache."""
