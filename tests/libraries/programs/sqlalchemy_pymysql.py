"""SQLAlchemy over PyMySQL."""

from sqlalchemy.engine import URL

from libraries.probe import servers
from libraries.programs.sqlalchemy_over import note_probes

maria = servers.mariadb
address = URL.create(
    "mysql+pymysql",
    maria["user"],
    maria["password"],
    maria["host"],
    maria["port"],
    maria["database"],
)
note_probes("mysql+pymysql", address, servers.refused, "select sleep(0.3)")
