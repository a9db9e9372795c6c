"""Attention mechanisms, two translators built on them, and their training."""
