/* memray, which keeps the thread's Python stack as it hears of calls and returns, and records it with
 * each allocation.
 *
 * It counts no calls. So what a stack has open is reported as returned when the stack is left, and as
 * called when it is resumed. memray takes a report only of the frame that the thread is in, so the
 * thread is made to seem so. It is C++ all through: no Python code runs meanwhile.
 */
#define _GNU_SOURCE /* dladdr */
#include "tools.h"
#include <dlfcn.h>

/* Whether the thread's profile function is memray's. It has no name to ask for, but a library. */
static int is_memray(Py_tracefunc function)
{
    static Py_tracefunc last;
    static int last_is_memray;
    if (function != last) {
        Dl_info found;
        last = function;
        last_is_memray = function != NULL && dladdr((void *)function, &found) != 0 &&
                         found.dli_fname != NULL && strstr(found.dli_fname, "/_memray.") != NULL;
    }
    return last_is_memray;
}

static void tell(PyThreadState *ts, struct _PyInterpreterFrame *f, int event)
{
    PyObject *frame = vg_frame_object(ts, f);
    if (frame == NULL) {
        PyErr_Clear(); /* no memory: the record of this stack ends here */
        return;
    }
    struct _PyInterpreterFrame *real = VG_CURRENT_FRAME(ts);
    VG_CURRENT_FRAME(ts) = f;
    int failed = ts->c_profilefunc(ts->c_profileobj, (PyFrameObject *)frame, event, Py_None);
    VG_CURRENT_FRAME(ts) = real;
    Py_DECREF(frame);
    if (failed < 0) {
        PyErr_WriteUnraisable(ts->c_profileobj);
    }
}

/* Frames are linked inwards out: the outermost is told first. */
static void tell_calls(PyThreadState *ts, vg_stack *s, struct _PyInterpreterFrame *f)
{
    size_t count = 0;
    for (struct _PyInterpreterFrame *g = f; g != NULL; g = vg_next_frame(s, g)) {
        count++;
    }
    struct _PyInterpreterFrame **frames = PyMem_RawMalloc((count + 1) * sizeof(*frames));
    if (frames == NULL) {
        return;
    }
    size_t at = 0;
    for (; f != NULL; f = vg_next_frame(s, f)) {
        frames[at++] = f;
    }
    while (at-- > 0) {
        tell(ts, frames[at], PyTrace_CALL);
    }
    PyMem_RawFree(frames);
}

void vg_memray_enter(PyThreadState *ts, vg_stack *s)
{
    if (is_memray(ts->c_profilefunc)) {
        tell_calls(ts, s, vg_innermost_frame(s));
    }
}

void vg_memray_leave(PyThreadState *ts, vg_stack *s)
{
    if (is_memray(ts->c_profilefunc)) {
        for (struct _PyInterpreterFrame *f = vg_innermost_frame(s); f != NULL;
             f = vg_next_frame(s, f)) {
            tell(ts, f, PyTrace_RETURN);
        }
    }
}
