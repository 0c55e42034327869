"""The storefront demo under a realistic, verified load: every answer is checked, one wrong one fails the run.

``storefront`` knows what the demo promises, ``locustfile`` who visits it, ``run`` starts and disturbs it meanwhile.
"""
