"""Both worlds: async and blocking functions, called from either.

    _to_async         a blocking function as an async one: on a thread, an executor, or green
    _blocking         an async function as a blocking one: waits through the stack it is on, or runs
                      a loop of its thread
    _thread_loop      the loop of a thread, and `idle_event_loop`
    _home             what library a worker thread works for
    _input            `a_input`
    _call             a call that was put off, and what it looks like in an error

Public names are exported by `verdigris`.
"""
