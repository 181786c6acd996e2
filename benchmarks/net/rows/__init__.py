"""The rows, by their names."""

from __future__ import annotations

from net.row import Row
from net.rows import (
    http_client,
    messages,
    psycopg2_select,
    psycopg_select,
    redis_get,
    requests_get,
    sleepers,
    urllib3_get,
)

# In the order that the table shows them.
SPEED = {
    row.name: row
    for row in (
        requests_get.ROW,
        urllib3_get.ROW,
        http_client.ROW,
        redis_get.ROW,
        psycopg2_select.ROW,
        psycopg_select.ROW,
        sleepers.ROW,
    )
}
MESSAGES = messages.ROW
ALL: dict[str, Row] = {**SPEED, MESSAGES.name: MESSAGES}
