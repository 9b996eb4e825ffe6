"""Studies on a Ray cluster: the runner `ray`. Ray itself (the extra `ray`) is imported when a study runs there.

Actors import this package too, so it imports nothing by itself.
"""
