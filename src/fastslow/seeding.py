"""Random numbers that depend on their place in a run and on nothing else.

No generator's state is carried along: each use derives its seed from the run's seed and from what
it is for. A resumed run therefore repeats the choices of the run it resumes, and the samples of a
rollout do not depend on which other rollouts share its batch.
"""

from __future__ import annotations

import hashlib


def derive_seed(*place: int | str) -> int:
    """A 63-bit seed for a place in a run, such as ``(run_seed, "slow", step, problem_id, 3)``."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in place)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8]) >> 1
