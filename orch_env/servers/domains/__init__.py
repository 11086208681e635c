"""The servers themselves, one module a domain."""
