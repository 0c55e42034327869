"""The tools for tests of one's own site."""
