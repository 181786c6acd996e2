"""The middle layer of `print_fact.py`: a plain function that knows nothing of loops.

All three programs there call this one. Not a line of it changes between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

# Shows a number to the user, by whatever means the program has.
PrintValue: TypeAlias = Callable[[int], object]


def print_fact(n: int, print_value: PrintValue, fact: int = 1) -> None:
    """Print the factorial of `n`, times `fact`."""
    if n <= 1:
        print_value(fact)
    else:
        print_fact(n - 1, print_value, fact * n)
