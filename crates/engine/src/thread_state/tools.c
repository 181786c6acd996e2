/* Which tools are told about a switch: see tools.h. */
#include "tools.h"

#if PY_VERSION_HEX >= 0x030c0000
#  define HOLD_EXCEPTION PyObject *pending = PyErr_GetRaisedException()
#  define RAISE_AGAIN PyErr_SetRaisedException(pending)
#else
#  define HOLD_EXCEPTION                                                           \
      PyObject *type, *value, *traceback;                                          \
      PyErr_Fetch(&type, &value, &traceback)
#  define RAISE_AGAIN PyErr_Restore(type, value, traceback)
#endif

/* A trace function that waits, such as a debugger's prompt, is no call of the
 * program: what is called from it is not traced. */
void vg_tools_enter(PyThreadState *ts, vg_stack *s)
{
    HOLD_EXCEPTION;
    if (ts->tracing == 0 && ts->c_tracefunc != NULL) {
        vg_coverage_enter(ts, s);
    }
    vg_lsprof_enter(ts, s);
    if (ts->c_profilefunc != NULL) {
        vg_memray_enter(ts, s);
    }
    RAISE_AGAIN;
}

void vg_tools_leave(PyThreadState *ts, vg_stack *s)
{
    HOLD_EXCEPTION;
    if (ts->c_profilefunc != NULL) {
        vg_memray_leave(ts, s);
    }
    vg_lsprof_leave(ts, s);
    if (ts->tracing == 0 && ts->c_tracefunc != NULL) {
        vg_coverage_leave(ts, s);
    }
    RAISE_AGAIN;
}
