"""The service worker, in a real browser."""
