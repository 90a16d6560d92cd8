"""Models: what is known before loading, loading itself, and the embedded tiny models."""
