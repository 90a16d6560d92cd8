"""KV caches that quantize what they keep. Not imported with biaslab.accel: its modules need torch."""
