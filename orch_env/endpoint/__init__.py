"""One client for every OpenAI-compatible chat endpoint."""
