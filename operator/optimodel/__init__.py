"""optimodel: compress models, prove them, serve them on Triton, roll them out by quality."""

__version__ = "0.1.0"
