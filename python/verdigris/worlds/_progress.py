"""How far several calls have come: a bar, or a function that is told."""

import contextlib
from collections.abc import Callable, Iterator

#: Called with how many have ended, and how many there are.
Progress = Callable[[int, int], object]


@contextlib.contextmanager
def shown(progress: bool | Progress, total: int) -> Iterator[Progress]:
    """Gives what is to be called when a call has ended."""
    if callable(progress):
        yield progress
    elif progress:
        try:
            import tqdm
        except ImportError as error:
            raise ImportError(
                "progress=True shows a bar of tqdm, which is not installed. Install it "
                "(pip install tqdm), or pass a function that is called with two numbers."
            ) from error
        with tqdm.tqdm(total=total) as bar:
            yield lambda ended, _: bar.update(ended - bar.n)
    else:
        yield shown_to_nobody


def shown_to_nobody(ended: int, total: int) -> None:
    """What is called where nobody asked."""


__all__ = ["Progress", "shown", "shown_to_nobody"]
