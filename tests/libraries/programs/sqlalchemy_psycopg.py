"""SQLAlchemy over psycopg."""

from libraries.probe import servers
from libraries.programs.sqlalchemy_over import note_probes

note_probes("postgresql+psycopg", servers.postgresql, servers.refused, "select pg_sleep(0.3)")
