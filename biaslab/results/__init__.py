"""The results store: what a cell leaves on disk, and how it gets there safely."""
