"""The printed tables of Kirsten et al. 2025 (arXiv:2410.22118): what they can show, and results held to them."""
