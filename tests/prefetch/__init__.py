"""Prefetching: declared URLs, and pages that a visitor is likely to request next."""
