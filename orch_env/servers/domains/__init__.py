"""The servers, one module per domain."""
