"""The generic parts of a controller. They know nothing of models and declare Protocols for what they need."""
