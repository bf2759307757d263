"""A proposer that has a language model rewrite the instructions from the verifier's feedback."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastslow.fast.characters import visible
from fastslow.fast.llm import Ask
from fastslow.fast.proposer import Example
from fastslow.fast.protocol import FastPhase
from fastslow.run.text import well_formed
from fastslow.types import Context, normalise_question

log = logging.getLogger("fastslow.fast")

_TASK = """\
A language model answers questions while reading instructions that you maintain. Below are its \
current instructions and what it did with a few questions: each completion in full, its score \
between 0 and 1, and what the grader said about it. Improve the instructions.

How to go about it:
- Find out from the feedback why points were lost: the format, the method, or a misread question.
- Edit in place. Keep what works, change or add only what the evidence calls for, and remove what \
has been shown to be wrong.
- Write lessons about this kind of task: rules, steps, formats, traps. The model will be tested on \
other questions, so neither these questions nor their answers may appear.
- Stay below {limit} characters.
"""

_CLOSING = """\
First reason about what went wrong. Then end your reply with the complete new instructions, not \
only the changes, between a line of four backticks and another such line:
````
the new instructions
````
"""

# Possessive: an answer of backticks and blanks without end is told from a fence at once.
_FENCE = re.compile(r"(`{3,}+)\s*+(\S*)")
_END_OF_EVIDENCE = re.compile(r"</(?=(current_instructions|question|completion|feedback)>)")


@dataclass(frozen=True)
class ReflectionProposer:
    """Rewrites the instructions by incremental edits (paper, App. E), through ``ask``.

    An answer is refused, with a line in the log, if it holds no complete block, or if the
    instructions in it are empty, unchanged, too long, or quote one of the questions shown.

    Attributes:
        ask: the language model: a prompt in, its answer out. See ``llm.make_reflector``.
        max_characters: instructions longer than this are refused.
    """

    ask: Ask
    max_characters: int
    name: str = "reflection"

    @property
    def metric_calls(self) -> int:
        return 0

    def propose(
        self, parent: Context, examples: Sequence[Example], phase: FastPhase, rng: random.Random
    ) -> Context | None:
        answer = self.ask(write_prompt(parent.instructions, examples, self.max_characters))
        instructions = read_answer(answer)
        reason = self._refusal(instructions, parent, examples)
        if reason:
            log.warning("%s: the proposed instructions were refused: %s", self.name, reason)
            return None
        return replace(parent, instructions=instructions)

    def _refusal(
        self, instructions: str, parent: Context, examples: Sequence[Example]
    ) -> str | None:
        if not instructions:
            return "the answer holds no complete block between fences, or an empty one"
        if len(instructions) > self.max_characters:
            return f"{len(instructions)} characters, more than {self.max_characters}"
        if instructions == parent.instructions:
            return "unchanged"
        normal, before = normalise_question(instructions), normalise_question(parent.instructions)
        questions = (normalise_question(problem.question) for problem, _ in examples)
        if any(question in normal and question not in before for question in questions):
            return "they quote a question of the training problems"
        return None


def write_prompt(instructions: str, examples: Sequence[Example], limit: int) -> str:
    """The request to the reflection model, with all evidence and the format of the answer.

    No piece of evidence can end its own block: such a tag gets a blank after its slash.
    """
    parts = [_TASK.format(limit=limit), _block("current_instructions", instructions)]
    for number, (problem, rollout) in enumerate(examples, start=1):
        completion = rollout.completion
        ending = "" if completion.finished else "\n[cut off at the token limit]"
        parts += [
            f"Example {number}, score {rollout.reward:g}:",
            _block("question", problem.question),
            _block("completion", completion.text + ending),
            _block("feedback", rollout.feedback),
        ]
    return well_formed("\n".join([*parts, _CLOSING]))


def _block(name: str, text: str) -> str:
    return f"<{name}>\n{_END_OF_EVIDENCE.sub('</ ', text)}\n</{name}>"


def read_answer(answer: str) -> str:
    """The instructions in a reflection model's answer, or "" where there are none.

    They are the last outermost fenced block: fences nested in it belong to it, drafts before it
    do not, and neither does what the model thought aloud in <think> tags. A block that is not
    closed was cut off and does not count. Characters that nobody sees are removed (see
    ``characters.visible``). Takes time in proportion to the answer's length, whatever it holds.
    """
    return _last_block(_without_thoughts(visible(answer))).strip()


def _without_thoughts(text: str) -> str:
    *thoughts, rest = text.split("</think>")
    spoken = ""
    for thought in thoughts:
        before, opened, _ = thought.partition("<think>")
        # The chat template may have opened the tag in the prompt: then all so far was thought.
        spoken = spoken + before if opened else ""
    return spoken + rest.partition("<think>")[0]


def _last_block(text: str) -> str:
    open_fences: list[str] = []
    lines: list[str] = []
    last = ""
    for line in text.split("\n"):
        fence = _FENCE.fullmatch(line.strip())
        if fence is None:
            lines.append(line)
            continue
        ticks, language = fence.groups()
        if open_fences and not language and len(ticks) >= len(open_fences[-1]):
            open_fences.pop()
            if not open_fences:
                last = "\n".join(lines)
        else:
            open_fences.append(ticks)
            if len(open_fences) == 1:
                lines = []
                continue
        lines.append(line)
    return "" if open_fences else last
