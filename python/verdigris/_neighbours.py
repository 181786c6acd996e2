"""Other packages that switch stacks, met when they are imported, before or after verdigris."""

from verdigris import _engine
from verdigris._when_imported import when_imported


def _meet_sqlalchemy() -> None:
    from verdigris import _sqlalchemy

    _sqlalchemy.meet()


# Before the first greenlet runs: the engine tells its native stacks apart for it.
when_imported("greenlet._greenlet", _engine.isolate_greenlet)
# Where SQLAlchemy 2.0 and 2.1 have the functions that wait.
when_imported("sqlalchemy.util._concurrency_py3k", _meet_sqlalchemy)
when_imported("sqlalchemy.util.concurrency", _meet_sqlalchemy)
