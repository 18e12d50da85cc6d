"""The vocabulary everyone shares: resource types, conditions, names, and the operator-worker contract. Imports nothing of ours."""
