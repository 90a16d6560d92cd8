"""Layers of our own; importing one imports torch, so families are discovered without them."""
