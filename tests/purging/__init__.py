"""Invalidation, through the socket."""
