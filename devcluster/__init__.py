"""A real Kubernetes cluster on one machine, and an API server alone for integration tests."""
