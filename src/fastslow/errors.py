"""The two ways in which fastslow gives up, and the exit code of each."""

from __future__ import annotations


class FastslowError(Exception):
    """Base of every error that is shown to a person as one message, without a traceback."""

    exit_code = 1


class InputError(FastslowError):
    """The configuration, a data file or a model name is wrong and can be mended (exit code 2).

    The message names the file and the key, says what was found and what is allowed.
    """

    exit_code = 2


class RunError(FastslowError):
    """The run itself failed: a full disk, a damaged checkpoint (exit code 1).

    The message says what is still intact and what to do next.
    """

    exit_code = 1
