"""The layers that the notes programs share: plain functions and SQLAlchemy's synchronous API.

`notes_threads.py` and `notes_engine.py` use all of it. `notes_asyncio.py` has a store of its own.
Between the programs not a line of this file changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from sqlalchemy import Engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

LISTS = {
    "ada": ("tea", "salt", "tea"),
    "bob": ("bread",),
    "cyd": ("rope", "soap", "salt"),
}


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    author: Mapped[str]
    thing: Mapped[str]


notes_in_order = select(Note.thing).order_by(Note.id)


class Store(Protocol):
    """Where notes are kept."""

    def add(self, author: str, thing: str) -> None: ...
    def notes_of(self, author: str) -> list[str]: ...


def note_logic(author: str, things: Iterable[str], store: Store) -> str:
    """Note each thing once, and word what is noted then."""
    for thing in things:
        if thing not in store.notes_of(author):
            store.add(author, thing)
    return f"{author} buys {', '.join(store.notes_of(author))}"


class SessionStore:
    """Keeps notes by sessions of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def add(self, author: str, thing: str) -> None:
        with Session(self.engine) as session:
            session.add(Note(author=author, thing=thing))
            session.commit()

    def notes_of(self, author: str) -> list[str]:
        with Session(self.engine) as session:
            return list(session.scalars(notes_in_order.where(Note.author == author)))
