"""Measurements that print tables: speed and memory, side by side."""
