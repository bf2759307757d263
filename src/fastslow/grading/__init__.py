"""Grading of texts: reading an answer out of a completion, and comparing it with a reference.

Nothing here knows of tasks, and nothing imports torch.
"""
