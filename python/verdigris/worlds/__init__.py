"""Both worlds: sync and async functions, called from anywhere.

| module | has |
|---|---|
| `_to_async` | a blocking function as an async one: on a thread, in an executor, or green |
| `_blocking` | an async function as a blocking one: through the stack it is on, or on a loop |
| `_thread_loop` | the loop of a thread, and `idle_event_loop` |
| `_first_turns` | that loop's first turns, done without starting and stopping it |
| `_home` | which library a thread works for |
| `_parallel`, `_serial` | several calls, at once or one after another |
| `_running` | calls under way: as tasks, on threads, in executors |
| `_mailbox` | how their outcomes come to the one who waits |
| `_call`, `_completed` | a call before and after; the errors of several |
| `_executors` | calls in executors: threads, processes, clusters |
| `_progress` | how far they have come |
| `_atomic` | `atomic`, a block in which nothing else runs |
| `_input` | `a_input` |
| `_pool` | `ThreadPool`, a pool of OS threads, and `default_pool`, the one of the process |
| `_crew` | the workers of a pool: how they take work, wait for it, begin and end |
| `_growth` | when a pool adds a worker |
| `_thread_executor` | `ThreadExecutor`, a thread for each call, which can be abandoned |
| `_future` | the futures of both |
| `_os_thread` | one OS thread, whatever is patched |

Public names are exported by `verdigris`.
"""
