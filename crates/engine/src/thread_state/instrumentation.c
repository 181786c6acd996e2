/* Tracers that come and go while a function is suspended.
 *
 * From 3.12 on, a change of tracer, profiler or monitoring tool rewrites the
 * bytecode of all functions that are executing, which CPython finds through the
 * frames of its threads. The frames of a suspended stack are in no thread's
 * chain. Resumed as they are, they would report to a tracer that has gone, or
 * not to the new one, and debug builds of CPython assert against it. So a stack
 * notes the version of the instrumentation when it is left, and if that has
 * changed when it is resumed, the code of its frames is brought up to date.
 */
#include "switch.h"

#if PY_VERSION_HEX >= 0x030c0000

typedef struct _PyInterpreterFrame frame;

static PyCodeObject *code_of(frame *f)
{
#  if PY_VERSION_HEX >= 0x030e0000
    if (f->owner >= FRAME_OWNED_BY_INTERPRETER) {
        return NULL;
    }
    return (PyCodeObject *)PyStackRef_AsPyObjectBorrow(f->f_executable);
#  else
    if (f->owner == FRAME_OWNED_BY_CSTACK) {
        return NULL;
    }
#    if PY_VERSION_HEX >= 0x030d0000
    return (PyCodeObject *)f->f_executable;
#    else
    return f->f_code;
#    endif
#  endif
}

#  if PY_VERSION_HEX >= 0x030f0000

static int bring_up_to_date(PyCodeObject *code, PyInterpreterState *interp)
{
    return _Py_Instrument(code, interp);
}

#  else

/* Up to 3.14 the function that does it is not exported. But a change of a code
 * object's own events does it too, and that has a Python interface, for those
 * who hold a tool id. One that is free is taken, once and for good: giving it
 * back would count as a change again. */
static int tool_id = -1;

static int take_tool_id(PyObject *monitoring)
{
    static const int ids[] = {5, 3, 4, 2, 1, 0}; /* the least used first */
    for (size_t i = 0; tool_id < 0 && i < sizeof(ids) / sizeof(ids[0]); i++) {
        PyObject *owner = PyObject_CallMethod(monitoring, "get_tool", "i", ids[i]);
        if (owner == NULL) {
            return -1;
        }
        Py_DECREF(owner);
        if (owner == Py_None) {
            PyObject *taken =
                PyObject_CallMethod(monitoring, "use_tool_id", "is", ids[i], "verdigris");
            if (taken == NULL) {
                return -1;
            }
            Py_DECREF(taken);
            tool_id = ids[i];
        }
    }
    if (tool_id < 0) {
        PyErr_SetString(PyExc_RuntimeError, "all tool ids of sys.monitoring are taken");
        return -1;
    }
    return 0;
}

/* sys.monitoring.events.LINE */
#    define LINE_EVENT (1 << PY_MONITORING_EVENT_LINE)

static int bring_up_to_date(PyCodeObject *code, PyInterpreterState *interp)
{
    (void)interp;
    PyObject *monitoring = PySys_GetObject("monitoring");
    if (monitoring == NULL || take_tool_id(monitoring) < 0) {
        return -1;
    }
    /* On and off again. The event is one that no callback of ours hears. */
    for (int events = LINE_EVENT; ; events = 0) {
        PyObject *done = PyObject_CallMethod(monitoring, "set_local_events", "iOi",
                                             tool_id, code, events);
        if (done == NULL) {
            return -1;
        }
        Py_DECREF(done);
        if (events == 0) {
            return 0;
        }
    }
}

#  endif

/* Called on the driver's side, before the stack is resumed. What fails costs
 * tracing events, nothing else, and there is nobody to tell. */
void vg_refresh_instrumentation(PyThreadState *ts, vg_stack *s)
{
    PyObject *pending = PyErr_GetRaisedException();
#  if PY_VERSION_HEX >= 0x030d0000
    frame *top = s->current_frame;
#  else
    frame *top = s->cframe->current_frame;
#  endif
    for (frame *f = top; f != NULL && f != &s->base_frame; f = f->previous) {
        PyCodeObject *code = code_of(f);
        if (code != NULL &&
            (uintptr_t)code->_co_instrumentation_version != vg_instrumentation(ts) &&
            bring_up_to_date(code, ts->interp) < 0) {
            PyErr_Clear();
            break;
        }
    }
    PyErr_SetRaisedException(pending);
}

#endif
