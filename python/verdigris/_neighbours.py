"""Other packages that switch stacks, met when they are imported, before or after verdigris.

greenlet itself is met by `_which_engine`, before all others.
"""

from verdigris import _sqlalchemy
from verdigris._when_imported import when_imported

for _name in _sqlalchemy.MODULES:
    when_imported(_name, _sqlalchemy.meet)
