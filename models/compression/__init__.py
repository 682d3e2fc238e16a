"""Dropping tokens from a cache: scores of importance, what they keep, and the dropping itself."""
