"""What a kind of operation is: what must come out of it, and how it runs."""

from __future__ import annotations

from typing import Any

from program import Node, Place


class Operation:
    """One kind. `expect` is its part of the model, `run` is the thing itself.

    Both leave on the trail what is to be compared, and return what is added to the total of their
    block.
    """

    name: str
    #: How often it is drawn, relative to the others. What takes long is rare.
    weight: float = 1
    #: How many blocks stand below it.
    blocks: int = 0
    #: Whether it may be cancelled at its waits and leaves nothing behind.
    cancellable: bool = False
    on_os_threads: bool = True
    in_greenlets: bool = True

    def may_stand(self, place: Place) -> bool:
        return (
            (self.cancellable or not place.cancellable)
            and (self.on_os_threads or not place.os_thread)
            and (self.in_greenlets or not place.in_greenlet)
        )

    def inside(self, place: Place) -> Place:
        """Where its blocks stand."""
        return place.deeper()

    # `Any` is a Model, a World: they import the operations.
    def expect(self, node: Node, model: Any) -> int:
        raise NotImplementedError

    def run(self, node: Node, world: Any) -> int:
        raise NotImplementedError
