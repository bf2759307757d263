"""Reading a chat completion of an OpenAI-compatible server, and the words it refuses with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class NoAnswerError(Exception):
    """The completion holds no answer. The message says what it holds instead.

    Attributes:
        is_cut_off: whether the model reached its token limit.
    """

    def __init__(self, message: str, *, is_cut_off: bool = False) -> None:
        super().__init__(message)
        self.is_cut_off = is_cut_off


def read_completion(completion: Any) -> str:
    """The text that the model answered with: its content, or the text parts of its content.

    Args:
        completion: the decoded JSON of the reply.

    Raises:
        NoAnswerError: it was cut off, holds reasoning only, or was refused by the model.
        ValueError: it is no chat completion.
    """
    try:
        choice = completion["choices"][0]
        message = choice["message"]
        text = _text(message.get("content"))
    except (LookupError, TypeError, AttributeError):
        shown = " ".join(json.dumps(completion, ensure_ascii=False).split())
        raise ValueError(f"expected a chat completion, found {shown!r}") from None
    if choice.get("finish_reason") in ("length", "max_tokens"):
        raise NoAnswerError("the answer was cut off at the token limit", is_cut_off=True)
    if text.strip():
        return text
    if isinstance(refusal := message.get("refusal"), str) and refusal:
        raise NoAnswerError(f"the model refused to answer: {refusal}")
    if message.get("reasoning_content") or message.get("reasoning"):
        raise NoAnswerError("the answer holds reasoning and no content")
    raise NoAnswerError("the answer has no content")


def _text(content: Any) -> str:
    """Raises: TypeError for content that is neither absent, nor text, nor a list of parts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(map(_part, content))
    raise TypeError


def _part(part: Any) -> str:
    """The text of one part of the content; reasoning, images and the like have none."""
    if isinstance(part, str):
        return part
    is_text = isinstance(part, Mapping) and part.get("type", "text") in ("text", "output_text")
    text = part.get("text") if is_text else None
    return text if isinstance(text, str) else ""


def error_words(body: str) -> str:
    """What a server says of an error: the message in its JSON with the name of the parameter that
    it is about, or the body as it is."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return body
    error = found.get("error") if isinstance(found, Mapping) else None
    for part in (error, found):
        if isinstance(part, str):
            return part
        if isinstance(part, Mapping) and isinstance(message := part.get("message"), str):
            about = part.get("param")
            return f"{message} (param: {about})" if isinstance(about, str) else message
    return body
