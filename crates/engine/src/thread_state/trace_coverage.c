/* coverage.py's tracers, which keep a stack of what each open call belongs to.
 *
 * The protocol of trace functions has a way to say that a function is left and comes back: a
 * generator's. It reports a return where it yields, and a call where it is resumed. The same is
 * reported here for each frame of a stack, to coverage.py alone: a debugger would take it at its
 * word, and stop.
 *
 * coverage.py looks at the bytecode to tell a yield from the end of a function, after which an arc
 * out of the function is recorded. No frame of ours stands at a yield, so the return is that of a
 * generator made for it. To coverage.py it only means "the innermost call is left". A call gets the
 * frame it is about, and then its line, so that the next arc begins there.
 *
 * On 3.12 and later coverage.py may use sys.monitoring instead, which needs none of this: there each
 * event belongs to a code object.
 */
#include "tools.h"

#define CTRACER "coverage.CTracer"
#define PYTRACER "PyTracer"

/* The type that was looked at last: nearly always the same. */
static PyTypeObject *last_type;
static int last_is_coverage;

static int is_coverage(PyObject *tracer)
{
    if (tracer == NULL) {
        return 0;
    }
    if (PyMethod_Check(tracer)) {
        tracer = PyMethod_GET_SELF(tracer);
    }
    PyTypeObject *type = Py_TYPE(tracer);
    if (type != last_type) {
        last_type = type;
        last_is_coverage = strcmp(type->tp_name, CTRACER) == 0 ||
                           strcmp(type->tp_name, PYTRACER) == 0;
    }
    return last_is_coverage;
}

/* What fails costs data of the tool, and the program goes on. */
static void tell(PyThreadState *ts, PyObject *frame, int event)
{
    PyThreadState_EnterTracing(ts);
    int failed = ts->c_tracefunc(ts->c_traceobj, (PyFrameObject *)frame, event, Py_None);
    PyThreadState_LeaveTracing(ts);
    if (failed < 0) {
        PyErr_WriteUnraisable(ts->c_traceobj);
    }
}

void vg_coverage_enter(PyThreadState *ts, vg_stack *s)
{
    if (!is_coverage(ts->c_traceobj)) {
        return;
    }
    size_t count = 0;
    for (struct _PyInterpreterFrame *f = vg_innermost_frame(s); f != NULL; f = vg_next_frame(s, f)) {
        count++;
    }
    if (count == 0) {
        return;
    }
    PyObject **frames = PyMem_Calloc(count, sizeof(PyObject *));
    if (frames == NULL) {
        return;
    }
    size_t at = 0;
    for (struct _PyInterpreterFrame *f = vg_innermost_frame(s); f != NULL; f = vg_next_frame(s, f)) {
        frames[at++] = vg_frame_object(ts, f);
    }
    while (at-- > 0) {
        PyObject *frame = frames[at];
        if (frame == NULL) {
            PyErr_Clear();
            continue;
        }
        /* The tool may have ended itself. */
        if (is_coverage(ts->c_traceobj)) {
            tell(ts, frame, PyTrace_CALL);
        }
        if (is_coverage(ts->c_traceobj)) {
            tell(ts, frame, PyTrace_LINE);
        }
        Py_DECREF(frame);
    }
    PyMem_Free(frames);
}

/* The frame of a generator that waits at a yield, borrowed. */
static PyObject *yielding_frame(void)
{
    static PyObject *generator, *frame;
    if (frame == NULL) {
        PyObject *names = PyDict_New();
        if (names == NULL) {
            return NULL;
        }
        generator = PyRun_String("(_ for _ in (0, 1))", Py_eval_input, names, names);
        Py_DECREF(names);
        if (generator == NULL) {
            return NULL;
        }
        Py_XDECREF(PyIter_Next(generator));
        frame = PyObject_GetAttrString(generator, "gi_frame");
    }
    return frame;
}

void vg_coverage_leave(PyThreadState *ts, vg_stack *s)
{
    if (!is_coverage(ts->c_traceobj)) {
        return;
    }
    PyThreadState_EnterTracing(ts);
    PyObject *frame = yielding_frame();
    /* Python's own function for trace functions asks the frame which one it has. */
    int failed =
        frame == NULL ||
        (PyMethod_Check(ts->c_traceobj) &&
         PyObject_SetAttrString(frame, "f_trace", ts->c_traceobj) < 0);
    PyThreadState_LeaveTracing(ts);
    if (failed) {
        PyErr_WriteUnraisable(ts->c_traceobj);
        return;
    }
    for (struct _PyInterpreterFrame *f = vg_innermost_frame(s); f != NULL; f = vg_next_frame(s, f)) {
        if (is_coverage(ts->c_traceobj)) {
            tell(ts, frame, PyTrace_RETURN);
        }
    }
}
