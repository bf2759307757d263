"""Sampling completions token by token. How logits are had is the decoder's matter."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fastslow.types import Turn

_REFILL = 4
"""Finished completions are replaced when they make up this part of the rows: 1/4. Prompts are
prefilled a few at a time, since a single one leaves the processor half idle."""


OnTurn = Callable[[int, int, Turn], None]
"""Receives a completion as soon as it ends: index of its prompt, index of its seed, the turn."""


def ignore(prompt: int, seed: int, turn: Turn) -> None:
    """An ``OnTurn`` that does nothing."""


@dataclass(frozen=True)
class SamplingLimits:
    """When a completion ends, and how spread out it is.

    Attributes:
        max_tokens: of a completion, at most.
        stop_ids: tokens that end it; they are kept in it.
        temperature: of the distribution.
        stops: whether a completion ends with these tokens, beside ``stop_ids``: for stop strings.
        decode: the text of a completion's tokens.
    """

    max_tokens: int
    stop_ids: frozenset[int]
    temperature: float
    stops: Callable[[Sequence[int]], bool] | None = None
    decode: Callable[[Sequence[int]], str] = lambda tokens: ""

    def ends(self, tokens: Sequence[int]) -> bool:
        """Whether a completion that has come this far has ended by itself."""
        return tokens[-1] in self.stop_ids or (self.stops is not None and self.stops(tokens))


class Decoder(Protocol):
    """Prompts under way, in rows: gives the logits from which each row's next token is drawn."""

    def order(self) -> Sequence[int]:
        """The order in which it is best given its prompts, as their indices."""

    def admit(
        self, prompts: Sequence[int], completions: Sequence[int], under_way: int
    ) -> Tensor | None:
        """Begin with these prompts, each for a number of completions; they become the last rows.

        ``under_way`` completions have begun and not ended. One alone is begun in any case.

        Returns:
            [U, V] logits after each of them; None if memory does not allow for them now.
        """

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, in this order; a row may be named more than once."""

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token to every row; [R, V] logits after it."""


def draw(
    logits: Tensor, uniforms: Tensor, temperature: float, rows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Draw M tokens by inverting the CDF at one uniform number each.

    Nothing is cut off (no top-k, no top-p), so that the log-probabilities are those of the
    distribution that was sampled from and importance ratios have no bias.

    Args:
        logits: [R, V].
        uniforms: [M] in [0, 1), fp32.
        temperature: of the distribution.
        rows: [M] the row of logits that each token is drawn from; None: one from each.

    Returns:
        [M] token ids and [M] log-probabilities (fp32, at ``temperature``).
    """
    scaled = logits.float() if temperature == 1 else logits.float() / temperature
    largest = scaled.amax(dim=-1, keepdim=True)
    cdf = (scaled - largest).exp_().cumsum(dim=-1)  # not yet over its total, the last column
    if rows is None:
        rows = torch.arange(len(logits), device=logits.device)
    # Numbers that ask the same row stand side by side, as searchsorted wants them.
    rank = _rank_within(rows)
    targets = torch.zeros(len(logits), int(rank.max()) + 1, device=logits.device)
    # The rounded total instead of 1 keeps the target inside.
    targets[rows, rank] = uniforms * cdf[rows, -1]
    found = torch.searchsorted(cdf, targets, right=True)[rows, rank]
    tokens = found.clamp_(max=logits.shape[-1] - 1)
    normalisers = largest[:, 0] + cdf[:, -1].log()
    return tokens, scaled[rows, tokens] - normalisers[rows]


def _rank_within(rows: Tensor) -> Tensor:
    """[M] how many earlier numbers ask the same row, of [M] rows."""
    ordered, order = rows.sort(stable=True)
    first = torch.searchsorted(ordered, ordered)
    rank = torch.empty_like(rows)
    rank[order] = torch.arange(len(rows), device=rows.device) - first
    return rank


@dataclass
class _Sampling:
    """One completion under way: that of seed ``seed`` of prompt ``prompt``, both by index."""

    prompt: int
    seed: int
    uniforms: np.ndarray
    tokens: list[int]
    logprobs: list[float]
    ended: bool = False
    turn: Turn | None = None


def sample(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[Sequence[int]],
    limits: SamplingLimits,
    rows: int,
    device: torch.device,
    on_turn: OnTurn = ignore,
) -> list[list[Turn]]:
    """Sample ``len(seeds[u])`` completions of prompt u, at most ``rows`` at a time.

    Completions of one prompt are one row until they differ. The places of those that ended go to
    prompts that wait. The random numbers of a completion depend on its seed alone.

    Returns:
        Completions per prompt, in the order of its seeds.
    """
    results = [
        [_Sampling(u, n, _uniforms(seed, limits.max_tokens), [], []) for n, seed in enumerate(some)]
        for u, some in enumerate(seeds)
    ]
    waiting = deque((u, results[u]) for u in decoder.order() if results[u])
    row_members: list[list[_Sampling]] = []
    logits: Tensor | None = None
    while waiting or row_members:
        free = rows - sum(map(len, row_members))
        if waiting and (not row_members or free * _REFILL >= rows):
            first = _admit(decoder, waiting, free, rows - free)
            if first is not None:
                admitted, new_logits = first
                row_members += admitted
                logits = new_logits if logits is None else torch.cat([logits, new_logits])
        assert logits is not None
        parents, row_members, ended = _advance(row_members, logits, limits, device)
        for one in ended:
            one.turn = Turn(
                read=tuple(prompts[one.prompt]),
                sampled=tuple(one.tokens),
                logprobs=tuple(one.logprobs),
                text=limits.decode(one.tokens),
                finished=one.ended,
            )
            on_turn(one.prompt, one.seed, one.turn)
        decoder.keep(parents)
        logits = None
        if row_members:
            tokens = [members[0].tokens[-1] for members in row_members]
            logits = decoder.step(torch.tensor(tokens, device=device))
    return [[one.turn for one in some if one.turn is not None] for some in results]


def _admit(
    decoder: Decoder,
    waiting: deque[tuple[int, list[_Sampling]]],
    free: int,
    under_way: int,
) -> tuple[list[list[_Sampling]], Tensor] | None:
    """Begin with as many waiting prompts as there is room for.

    Of a prompt that wants more completions than there is room for, and comes first, some are
    begun and the others wait on.
    """
    taken: list[tuple[int, list[_Sampling]]] = []
    is_idle = not under_way
    room = free
    for prompt, members in waiting:
        if len(members) > room:
            if not taken:
                taken.append((prompt, members[:room]))
            break
        taken.append((prompt, members))
        room -= len(members)
    while taken:
        logits = decoder.admit(
            [u for u, _ in taken], [len(members) for _, members in taken], under_way
        )
        if logits is not None:
            break
        if len(taken) > 1:
            taken = taken[: len(taken) // 2]
        elif is_idle:
            ((prompt, members),) = taken
            taken = [(prompt, members[: len(members) // 2])]
        else:
            taken = []
    else:
        return None
    for prompt, members in taken:
        _, all_members = waiting.popleft()
        if len(members) < len(all_members):
            waiting.appendleft((prompt, all_members[len(members) :]))
    return [members for _, members in taken], logits


def _advance(
    row_members: list[list[_Sampling]], logits: Tensor, limits: SamplingLimits, device: torch.device
) -> tuple[list[int], list[list[_Sampling]], list[_Sampling]]:
    """Draw the next token of every completion.

    Returns:
        The rows that go on, as the rows that they come from; their members; and the
        completions that ended.
    """
    owners = [row for row, members in enumerate(row_members) for _ in members]
    members = [member for some in row_members for member in some]
    uniforms = torch.tensor([m.uniforms[len(m.tokens)] for m in members], device=device)
    tokens, logprobs = draw(
        logits, uniforms, limits.temperature, torch.tensor(owners, device=device)
    )
    going_on: dict[tuple[int, int], list[_Sampling]] = {}
    ended: list[_Sampling] = []
    for row, member, token, logprob in zip(
        owners, members, tokens.tolist(), logprobs.tolist(), strict=True
    ):
        member.tokens.append(token)
        member.logprobs.append(logprob)
        member.ended = limits.ends(member.tokens)
        if member.ended or len(member.tokens) == limits.max_tokens:
            ended.append(member)
        else:
            going_on.setdefault((row, token), []).append(member)
    return [row for row, _ in going_on], list(going_on.values()), ended


def _uniforms(seed: int, count: int) -> np.ndarray:
    """The random numbers of one completion, [count] fp32 in [0, 1)."""
    return np.random.Generator(np.random.Philox(key=seed)).random(count, dtype=np.float32)
