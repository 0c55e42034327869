"""Serving fast: grace, refreshing ahead, prefetching, the service worker."""
