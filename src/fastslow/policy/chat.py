"""A model's chat template: chat turns in, token ids out, and no text forges a turn.

A template marks where turns begin and end, mostly by tokens of their own. Instructions,
demonstrations and questions come from models and data sets; where one of them spells the name of
such a token, it is encoded as characters (see ``marks``). No field of a model says what its
template does with turns, so a conversation is rendered when the model is loaded.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from fastslow.errors import InputError
from fastslow.policy.marks import MarkedTokenizer, Opaque
from fastslow.policy.rendering import Template, try_out
from fastslow.text import well_formed
from fastslow.types import Context, Message

log = logging.getLogger("fastslow.policy")

_ROLES = ("system", "user", "assistant", "user", "assistant", "user")

_SHORTEST_STOP = 3
"""Characters of a text that ends completions, at least: a shorter one stands in many answers."""


class ChatTemplate:
    """The chat template of a tokenizer.

    A template that refuses a system turn, or leaves it out, is given the instructions at the head
    of the first user turn, which is what templates do that merge the two by themselves.

    Args:
        tokenizer: of transformers, with a chat template.
        date: the day that the template is told, if it asks for one; None: today.
        contexts: those that the run begins with. The template is tried on turns of their roles.

    Attributes:
        end_tokens: tokens that the template writes behind an assistant's turn.
        end_texts: texts that it writes there instead.

    Raises:
        InputError: the template fails, takes too long, leaves out turns, or does not begin the
            assistant's turn; or the tokenizer does not say where its tokens stand.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        date: datetime.date | None = None,
        contexts: Sequence[Context] = (Context(),),
    ) -> None:
        self._tokenizer = tokenizer
        self._template = self._compile(date or datetime.date.today())
        self._takes_system = True
        try:
            rendered = self._render(_probe(_ROLES))
            self._gaps(rendered, _probe(_ROLES))
        except InputError:
            self._takes_system = False
            rendered = self._render(_probe(_ROLES))
        gaps = self._gaps(rendered, _probe(_ROLES))
        for context in contexts:
            turns = _probe([turn["role"] for turn in context.messages("")])
            self._gaps(self._render(turns), turns)
        self._check_generation_prompt(gaps)
        self._tokens = MarkedTokenizer(tokenizer, [*self._template.literals, *gaps])
        self._warn_of_plain_marks(gaps)
        self.end_tokens, self.end_texts = self._end_of_answer(between=gaps[1])

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Token ids of the turns, up to where the next answer begins.

        Texts that forge no mark are encoded exactly as ``apply_chat_template`` of the tokenizer
        does it. Halves of surrogate pairs, which no tokenizer takes, become U+FFFD.

        Raises:
            InputError: the template fails on these turns.
        """
        turns = [{**turn, "content": well_formed(turn["content"])} for turn in messages]
        opaque = Opaque((turn["content"] for turn in turns), self._tokens.reserved)
        hidden = [{**turn, "content": opaque.hide(turn["content"])} for turn in turns]
        return self._tokens.encode(self._render(turns), self._render(hidden), opaque)

    def count(self, text: str) -> int:
        """Length of a text in tokens, without any template."""
        ids: list[int] = self._tokenizer.encode(
            well_formed(text), add_special_tokens=False, split_special_tokens=True
        )
        return len(ids)

    def _compile(self, date: datetime.date) -> Template:
        """The template, once it has shown that it renders within limits."""
        try:
            text = self._tokenizer.get_chat_template()
            variables = dict(self._tokenizer.special_tokens_map)
            turns = _probe(_ROLES)
            probes = [turns, turns[1:], turns[:2], turns[1:2], _without_system(turns)]
            probes += [[*probe, *_probe(["assistant"])] for probe in probes]
            if reason := try_out(text, variables, date, probes):
                raise InputError(f"{self._named()} {reason}: use another model, or mend it")
            return Template(text, variables, date)
        except InputError:
            raise
        except Exception as error:  # a template is somebody else's program
            raise InputError(f"{self._named()} cannot be read: {_said(error)}") from error

    def _render(self, messages: Sequence[Message], *, prompt: bool = True) -> str:
        turns = messages if self._takes_system else _without_system(messages)
        try:
            return self._template.render(turns, prompt=prompt)
        except Exception as error:  # a template is somebody else's program
            roles = ", ".join(turn["role"] for turn in turns)
            hint = ""
            if self._takes_system and turns[0]["role"] != "system":
                hint = ". If it asks for a system turn, set context.instructions, which becomes one"
            raise InputError(
                f"{self._named()} fails on turns of the roles {roles}: {_said(error)}{hint}"
            ) from error

    def _gaps(self, rendered: str, messages: Sequence[Message]) -> list[str]:
        """What the template writes behind each turn of a user or an assistant, up to the content
        of another turn.

        Raises:
            InputError: a turn is left out, or comes before the turn that it follows.
        """
        starts = [rendered.find(turn["content"]) for turn in messages]
        for turn, start in zip(messages, starts, strict=True):
            if start < 0:
                raise InputError(
                    f"{self._named()} leaves out turns of the role {turn['role']!r}, and contexts "
                    "are chat turns: use an instruction-tuned model, or mend its template"
                )
        spoken = [
            (start, start + len(turn["content"]))
            for turn, start in zip(messages, starts, strict=True)
            if turn["role"] != "system"  # some templates show the instructions last
        ]
        if any(end > following for (_, end), (following, _) in pairwise(spoken)):
            raise InputError(f"{self._named()} changes the order of the turns: mend it")
        nexts = [min((s for s in starts if s >= end), default=None) for _, end in spoken]
        return [rendered[end:following] for (_, end), following in zip(spoken, nexts, strict=True)]

    def _check_generation_prompt(self, gaps: Sequence[str]) -> None:
        """See that a prompt ends where an answer begins."""
        turns = _probe(_ROLES)
        header, prompt = gaps[0].strip(), gaps[-1].strip()
        try:
            without = self._gaps(self._render(turns, prompt=False), turns)[-1].strip()
        except InputError:
            return  # it tells the two apart
        if without == prompt != header:
            raise InputError(
                f"{self._named()} ignores add_generation_prompt: a prompt ends with the user's "
                f"turn, by {gaps[-1]!r}, while it writes {gaps[0]!r} before an answer. Let it end "
                "by {% if add_generation_prompt %}...{% endif %} with what begins an answer"
            )
        if not (header.startswith(prompt) or prompt.startswith(header)):
            log.warning(
                "%s begins an answer by %r where one is asked for, and by %r where one is shown: "
                "see that its add_generation_prompt is right",
                self._named(),
                gaps[-1],
                gaps[0],
            )

    def _warn_of_plain_marks(self, gaps: Sequence[str]) -> None:
        """Tell of turns that end without a token of their own: their end can be forged."""
        plain = next((gap for gap in gaps if not self._tokens.marks(gap)), None)
        if plain is not None:
            log.warning(
                "%s ends a turn by ordinary text, %r, which a question or a context can hold too: "
                "what follows it there passes for another turn. Use trusted data, or a model whose "
                "turns are marked by tokens",
                self._named(),
                plain,
            )

    def _end_of_answer(self, between: str) -> tuple[frozenset[int], tuple[str, ...]]:
        """The token or the text by which the template ends an assistant's turn.

        What it writes behind the last turn counts before what it writes ``between`` an answer and
        the next question: some models end messages within a turn by a token of its own.
        """
        turns = [*_probe(_ROLES), *_probe(["assistant"])]
        try:
            last = self._gaps(self._render(turns, prompt=False), turns)[-1]
        except InputError:  # it takes no conversation that ends with an answer
            last = ""
        for gap in (last, between):
            mark = next(iter(self._tokens.marks(gap)), None)
            text = gap[: mark.start] if mark else gap
            tokens = frozenset([mark.token] if mark else [])
            if len(text.strip()) >= _SHORTEST_STOP:
                log.warning(
                    "%s ends an answer by ordinary text, %r: completions end where they hold it",
                    self._named(),
                    text.rstrip(),
                )
                return tokens, (text.rstrip(),)
            if tokens:
                return tokens, ()
        log.warning(
            "%s writes nothing behind an answer that ends it: only the tokenizer's end token does, "
            "and policy.stop",
            self._named(),
        )
        return frozenset(), ()

    def _named(self) -> str:
        return f"model: the chat template of {self._tokenizer.name_or_path or 'its tokenizer'}"


def _probe(roles: Iterable[str]) -> list[Message]:
    """A conversation of these roles, in words that no template writes by itself."""
    return [
        {"role": role, "content": f"{role}-content-{7411 + 1873 * number}"}
        for number, role in enumerate(roles)
    ]


def _without_system(turns: Sequence[Message]) -> list[Message]:
    """The turns with the instructions at the head of the first question."""
    if turns[0]["role"] != "system":
        return list(turns)
    system, first, *rest = turns
    return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
