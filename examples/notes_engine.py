"""`notes_threads.py` on asyncio, with SQLAlchemy's synchronous API in every layer.

What changes is the engine's driver and the API, which enters with `async_def`. The store and the
logic stay what they were: below `async_def` SQLAlchemy waits for the driver right there.
"""

from __future__ import annotations

import asyncio
import tempfile

from notes_layers import LISTS, Base, SessionStore, Store, note_logic
from sqlalchemy import create_engine

from verdigris import async_def


async def note_api(author: str, store: Store) -> str:
    return await async_def(note_logic, author, LISTS[author], store)


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        engine = create_engine(f"sqlite+aiosqlite:///{directory}/notes.db")
        await async_def(Base.metadata.create_all, engine)
        store = SessionStore(engine)
        for line in await asyncio.gather(*[note_api(author, store) for author in LISTS]):
            print(line)
        await async_def(engine.dispose)


if __name__ == "__main__":
    asyncio.run(main())
