"""Model calls compared with gold calls: identity, arguments, items of sets."""
