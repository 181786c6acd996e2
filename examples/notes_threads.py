"""A database program with threads: notes of three authors, a thread for each.

Three layers: the store reads and writes, the logic decides what is noted, the API is what the rest
of the program calls. `notes_asyncio.py` and `notes_engine.py` are the same program on asyncio.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor

from notes_layers import LISTS, Base, SessionStore, Store, note_logic
from sqlalchemy import create_engine


def note_api(author: str, store: Store) -> str:
    return note_logic(author, LISTS[author], store)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(len(LISTS)) as threads:
        engine = create_engine(f"sqlite:///{directory}/notes.db")
        Base.metadata.create_all(engine)
        store = SessionStore(engine)
        for line in threads.map(lambda author: note_api(author, store), LISTS):
            print(line)
        engine.dispose()


if __name__ == "__main__":
    main()
