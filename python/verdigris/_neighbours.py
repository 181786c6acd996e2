"""Other packages that switch stacks, met when they are imported, before or after verdigris."""

from verdigris import _engine, _sqlalchemy
from verdigris._when_imported import when_imported

# Before the first greenlet runs: the engine tells its native stacks apart for it.
when_imported("greenlet._greenlet", _engine.isolate_greenlet)
for _name in _sqlalchemy.MODULES:
    when_imported(_name, _sqlalchemy.meet)
