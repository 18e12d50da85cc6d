"""Python that runs inside Triton, and the arithmetic that the worker shares with it."""
