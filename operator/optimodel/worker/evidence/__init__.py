"""Proof: how the candidate stands to its fp32 baseline, in quality, latency, size and from batch to batch."""
