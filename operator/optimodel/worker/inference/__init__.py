"""An artifact at work, as it is served: what stands before its graph, the graph, and what its answers are."""
