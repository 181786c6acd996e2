"""The benchmark of network clients: libraries made for threads, and what runs them.

net_run.py            the command: starts the servers, takes turns, prints the tables
  servers.py          nginx, Redis, PostgreSQL and a peer that answers after a pause
  turns.py            a row in rounds: each round every peer once
  system_calls.py     the same client under strace
net_client.py         one peer at one row, in a process of its own
  peers.py            how a peer makes a library cooperate, and starts workers
  rows/               the work: a file for each row, with its native counterpart
"""
