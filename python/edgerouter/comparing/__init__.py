"""Comparing the variants of an experiment: visitors from an access log, and tests that may be looked at at any time.

``statistics`` has the tests, which are functions of counts; ``visitors`` counts; ``report`` puts both together.
"""
