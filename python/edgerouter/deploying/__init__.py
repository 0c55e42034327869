"""Deploys: a new version of the application beside the running one.

``checked`` reads files of a folder after it has checked their owner and mode, by descriptor. ``namespace`` imports them
under names of their own, which ``names`` makes readable. ``loading`` makes an edge of them in bounded time. ``orders``
carries out what the admin listener orders. The share, the counts and the roll-back are the engine's.
"""
