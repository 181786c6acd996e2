"""Both worlds: sync and async functions, called from anywhere.

| module | has |
|---|---|
| `_pool` | `ThreadPool`, a pool of OS threads, and `default_pool`, the one of the process |
| `_crew` | the workers of a pool: how they take work, wait for it, begin and end |
| `_growth` | when a pool adds a worker |
| `_thread_executor` | `ThreadExecutor`, a thread for each call, which can be abandoned |
| `_future` | the futures of both |
| `_os_thread` | one OS thread, whatever is patched |
"""
