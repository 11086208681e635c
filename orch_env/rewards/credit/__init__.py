"""Credit assignment: totals split over turns and calls, and why in a sentence."""
