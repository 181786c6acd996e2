"""The libraries, and what the programs over them need."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Library:
    """A row of the table.

    Attributes:
        name: As its users write it.
        program: The module in `libraries.programs`.
        packages: What has to be importable.
        servers: Fixtures of tests/servers.py.
        patches: Functions of verdigris that are called for it, beside `patch_all`.
    """

    name: str
    program: str
    packages: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    patches: tuple[str, ...] = ()


LIBRARIES = [
    Library("http.client", "http_client", servers=("nginx",)),
    Library("urllib.request", "urllib_request", servers=("nginx",)),
    Library("requests", "requests_", ("requests",), ("nginx",)),
    Library("urllib3", "urllib3_", ("urllib3",), ("nginx",)),
    Library("httpx (sync)", "httpx_", ("httpx",), ("nginx",)),
    Library("redis-py", "redis_", ("redis",), ("redis",)),
    Library("psycopg2", "psycopg2_", ("psycopg2",), ("postgresql",), ("patch_psycopg2",)),
    Library(
        "SQLAlchemy over psycopg2",
        "sqlalchemy_psycopg2",
        ("sqlalchemy", "psycopg2"),
        ("postgresql",),
        ("patch_psycopg2",),
    ),
    Library("psycopg 3", "psycopg_", ("psycopg",), ("postgresql",), ("patch_psycopg",)),
    Library(
        "psycopg_pool",
        "psycopg_pool_",
        ("psycopg", "psycopg_pool"),
        ("postgresql",),
        ("patch_psycopg",),
    ),
    Library(
        "SQLAlchemy over psycopg 3",
        "sqlalchemy_psycopg",
        ("sqlalchemy", "psycopg"),
        ("postgresql",),
        ("patch_psycopg",),
    ),
    Library("PyMySQL", "pymysql_", ("pymysql",), ("mariadb",)),
    Library(
        "SQLAlchemy over PyMySQL", "sqlalchemy_pymysql", ("sqlalchemy", "pymysql"), ("mariadb",)
    ),
    Library("pika", "pika_", ("pika",), ("rabbitmq",)),
    Library("kombu over py-amqp", "kombu_", ("kombu", "amqp"), ("rabbitmq",)),
    Library("smtplib", "smtplib_", servers=("smtp",)),
    Library("ftplib", "ftplib_", servers=("ftp",)),
    Library("imaplib", "imaplib_", servers=("imap",)),
    Library("poplib", "poplib_", servers=("pop3",)),
    Library("paramiko", "paramiko_", ("paramiko",), ("ssh",)),
    Library("boto3", "boto3_", ("boto3",), ("s3",)),
    Library("websocket-client", "websocket_client", ("websocket",), ("websocket",)),
    Library("threading", "threading_"),
    Library("queue", "queue_"),
    Library("concurrent.futures", "concurrent_futures"),
    Library("logging", "logging_"),
    Library("subprocess", "subprocess_"),
    Library("socketserver", "socketserver_"),
    Library("http.server", "http_server"),
    Library("xmlrpc", "xmlrpc_"),
]

MODES = ["threads", "asyncio", "uvloop", "trio"]
