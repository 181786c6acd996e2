"""SQLAlchemy over psycopg2."""

from libraries.probe import servers
from libraries.programs.sqlalchemy_over import note_probes

note_probes("postgresql+psycopg2", servers.postgresql, servers.refused, "select pg_sleep(0.3)")
