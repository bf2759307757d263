"""Public sets of mathematics problems: where they are, what their columns hold, what they are for.

All are read as they are; none is part of this package.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MathSet:
    """One data set on the hub.

    Attributes:
        source: id of the data set.
        config: its configuration, if it has several.
        train: the split to train on, None if the set is for evaluation only.
        test: the split to test on, None if it has none of its own.
        question: column of the problem.
        answer: column of the answer: the value alone, a worked solution that ends in "#### value"
            or in a box, or a list of values each of which is right.
        solution: column of a worked solution, if it has one.
        difficulty: column of a number, or of text with one, that tells easy from hard.
    """

    source: str
    config: str | None = None
    train: str | None = None
    test: str | None = "test"
    question: str = "problem"
    answer: str = "answer"
    solution: str | None = None
    difficulty: str | None = None


MATH_SETS = {
    # Difficulty: share of 8 attempts of a 7B model that were right, as "3/8"; small is hard.
    "polaris": MathSet(
        "POLARIS-Project/Polaris-Dataset-53K", train="train", test=None, difficulty="difficulty"
    ),
    "gsm8k": MathSet("openai/gsm8k", "main", train="train", question="question"),
    # Difficulty: levels 1 to 5; 5 is hard.
    "math": MathSet(
        "nlile/hendrycks-MATH-benchmark", train="train", solution="solution", difficulty="level"
    ),
    "math500": MathSet("HuggingFaceH4/MATH-500", solution="solution", difficulty="level"),
    "aime24": MathSet("HuggingFaceH4/aime_2024", test="train", solution="solution"),
    "aime25": MathSet("MathArena/aime_2025", test="train"),
    "hmmt-feb-2025": MathSet("MathArena/hmmt_feb_2025", test="train"),
    "amc23": MathSet("math-ai/amc23", question="question"),
    "minerva": MathSet("math-ai/minervamath", question="question"),
    "olympiad": MathSet(
        "Hothan/OlympiadBench", "OE_TO_maths_en_COMP", test="train",
        question="question", answer="final_answer",
    ),
}  # fmt: skip
"""Sets by the name that ``[task] dataset`` takes. Those without a train split are measures of what
training on the others has changed, and are never trained on."""
