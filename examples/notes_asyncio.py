"""`notes_threads.py` on asyncio, with SQLAlchemy's asyncio API at the back end.

The store waits with `await_`, the API enters with `async_def`. Between them `note_logic` stays what
it was. `notes_engine.py` keeps the store as well.
"""

from __future__ import annotations

import asyncio
import tempfile

from notes_layers import LISTS, Base, Note, Store, note_logic, notes_in_order
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from verdigris import async_context, async_def, await_


class AsyncSessionStore:
    """Keeps notes by asynchronous sessions."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    def add(self, author: str, thing: str) -> None:
        with async_context(AsyncSession(self.engine)) as session:
            session.add(Note(author=author, thing=thing))
            await_(session.commit())

    def notes_of(self, author: str) -> list[str]:
        with async_context(AsyncSession(self.engine)) as session:
            return list(await_(session.scalars(notes_in_order.where(Note.author == author))))


async def note_api(author: str, store: Store) -> str:
    return await async_def(note_logic, author, LISTS[author], store)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        engine = create_async_engine(f"sqlite+aiosqlite:///{directory}/notes.db")
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        store = AsyncSessionStore(engine)
        for line in await asyncio.gather(*[note_api(author, store) for author in LISTS]):
            print(line)
        await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
