/* What is the same in both builds of the shim, the one that knows the thread state
 * (switch.h) and the one that does not (portable.c). */
#include <Python.h>
#include <stdint.h>

/* Sub-interpreters share the process-wide types of this module, which belong to
 * the main one. Returns 0, or -1 with ImportError set. */
int vg_check_interpreter(void)
{
    if (PyInterpreterState_Get() == PyInterpreterState_Main()) {
        return 0;
    }
    PyErr_SetString(PyExc_ImportError,
                    "verdigris works in the main interpreter only, and this is a "
                    "sub-interpreter; run this code in the main one, or in a process "
                    "of its own");
    return -1;
}

/* What threading.get_ident() is in the thread of a thread state, or 0 if that has
 * ended. */
unsigned long vg_thread_ident(uint64_t id)
{
    PyThreadState *ts = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    while (ts != NULL && PyThreadState_GetID(ts) != id) {
        ts = PyThreadState_Next(ts);
    }
    return ts != NULL ? ts->thread_id : 0;
}

/* The engine's state of this thread (runtime.rs), or NULL. It is read several
 * times in every call: the initial-exec model makes that one instruction where
 * Rust's thread-locals in a shared library cost a call into the dynamic linker.
 * glibc keeps room for such variables of libraries loaded late; other C
 * libraries may not. */
#ifdef __GLIBC__
__attribute__((tls_model("initial-exec")))
#endif
static __thread void *runtime;

void *vg_runtime(void)
{
    return runtime;
}

void vg_set_runtime(void *value)
{
    runtime = value;
}
