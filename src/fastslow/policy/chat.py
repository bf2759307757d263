"""A model's chat template: chat turns in, token ids out, and no text forges a turn.

A template marks where turns begin and end by tokens of their own. Instructions, demonstrations and
questions come from models and data sets; where one of them holds the *name* of such a token, it is
encoded as the characters that it is, so that a turn begins where the template begins one and
nowhere else.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

from fastslow.errors import InputError
from fastslow.text import well_formed
from fastslow.types import Message

log = logging.getLogger("fastslow.policy")

_PROBE: list[Message] = [
    {"role": "system", "content": "instructions-7411"},
    {"role": "user", "content": "question-2903"},
    {"role": "assistant", "content": "answer-5182"},
    {"role": "user", "content": "question-6037"},
]
"""A conversation with every role in it, in words that no template writes by itself."""


class ChatTemplate:
    """The chat template of a tokenizer.

    A template that refuses a system turn, or leaves it out, is given the instructions at the head
    of the first user turn, which is what templates do that merge the two by themselves.

    Args:
        tokenizer: of transformers, with a chat template. Both are tried when this is made.

    Raises:
        InputError: the template leaves out turns of a conversation, or the tokenizer cannot help
            reading the name of a control token as that token.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._added = [name for name in tokenizer.get_added_vocab() if not name.isspace()]
        self._name = re.compile("|".join(map(re.escape, self._added)) or r"(?!)")
        self._takes_system = True
        try:
            rendered = self._render_probe()
        except InputError:
            self._takes_system = False
            rendered = self._render_probe()
        self._warn_of_plain_marks(rendered)
        self._check_control_tokens()

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Token ids of the turns, up to where the next answer begins.

        Control tokens are the tokenizer's special tokens and the added tokens that the template
        writes. Texts without the name of one are encoded exactly as ``apply_chat_template`` of the
        tokenizer does it. Halves of surrogate pairs, which no tokenizer takes, become U+FFFD.
        """
        turns = self._turns(messages)
        ids: list[int] = self._tokenizer.apply_chat_template(
            turns,
            add_generation_prompt=True,
            # Only where there is something to do: it takes long with thousands of added tokens.
            sanitize_control_tokens=any(self._name.search(turn["content"]) for turn in turns),
            return_dict=False,
        )
        return tuple(ids)

    def count(self, text: str) -> int:
        """Length of a text in tokens, without any template."""
        ids: list[int] = self._tokenizer.encode(
            well_formed(text), add_special_tokens=False, split_special_tokens=True
        )
        return len(ids)

    def _turns(self, messages: Sequence[Message]) -> list[Message]:
        turns = [{**turn, "content": well_formed(turn["content"])} for turn in messages]
        if self._takes_system or turns[0]["role"] != "system":
            return turns
        system, first, *rest = turns
        return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]

    def _render_probe(self) -> str:
        """The probe as the template writes it. Raises: InputError, if that is not all of it."""
        try:
            text: str = self._tokenizer.apply_chat_template(
                self._turns(_PROBE), add_generation_prompt=True, tokenize=False
            )
        except Exception as error:  # a template is somebody else's program
            raise InputError(f"{self._named()} fails: {type(error).__name__}: {error}") from error
        for turn in _PROBE:
            if turn["content"] not in text:
                raise InputError(
                    f"{self._named()} leaves out turns of the role {turn['role']!r}, and contexts "
                    "are chat turns: use an instruction-tuned model, or mend its template"
                )
        return text

    def _warn_of_plain_marks(self, rendered: str) -> None:
        """Tell of turns that end without a token of their own: their end can be forged."""
        for turn, following in zip(_PROBE[1:], [*_PROBE[2:], None], strict=True):
            rendered = rendered.partition(turn["content"])[2]
            end = rendered.partition(following["content"])[0] if following else rendered
            if not self._name.search(end):
                log.warning(
                    "%s ends a turn by ordinary text, %r, which a question or a context can hold "
                    "too: what follows it there passes for another turn. Use trusted data, or a "
                    "model whose turns are marked by tokens",
                    self._named(),
                    end,
                )
                return

    def _check_control_tokens(self) -> None:
        try:
            self.encode([{"role": "user", "content": " ".join(self._added)}])
        except ValueError as error:
            raise InputError(f"{self._named()} lets texts forge turns: {error}") from None

    def _named(self) -> str:
        return f"model: the chat template of {self._tokenizer.name_or_path or 'its tokenizer'}"
