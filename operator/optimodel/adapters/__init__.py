"""The outside: the API server, Triton pods, worker pods."""
