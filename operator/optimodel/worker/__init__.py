"""What runs in an optimization Job: fetch, steps, evaluate, gates, publish. Sole home of torch and transformers."""
