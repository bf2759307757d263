"""Grading of texts: reading an answer out of a completion, and comparing it with a reference.

An answer goes through these steps, a file each:

1. ``answers`` reads it out of the completion: between tags, in a box, a last number, a letter.
2. ``notation`` brings it into one notation, by the tables of rules in ``words.toml``.
3. ``equivalence`` decides what spelling decides: lists, brackets, names and words; with ``numbers``
   it reads exact values, with ``units`` it parts a value from its unit, percent sign or scale.
4. ``algebra`` gives what is left to math-verify, behind guards that it states in one sentence each.

Only the last step imports sympy. Nothing here knows of tasks, and nothing imports torch.
"""
