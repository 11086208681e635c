"""Model calls held against gold calls: identity, arguments, items of sets."""
