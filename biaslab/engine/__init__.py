"""The engine: turns requests into responses, the same numbers at any batch size, order and padding."""
