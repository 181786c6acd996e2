/* The shim for an interpreter whose thread state is not known: CPython's public C
 * API and nothing else. It is compiled in place of switch.c, carry.c, frames.c and
 * instrumentation.c (build.rs), and there greenlets carry all functions.
 *
 * greenlet, which was built for that interpreter, exchanges frames, handled
 * exceptions, recursion depths and contexts. What makes a greenlet a part of
 * whoever drives it is done here, as in carry.c, as far as it can be asked for:
 *
 * - its context is the driver's. Both are read and set as `gr_context`;
 * - what the driver handles it sees as handled;
 * - `cr_frame` is the waiting greenlet's `gr_frame`.
 *
 * Not to be had: what the frames of a function that waits own, for the collector;
 * `f_back` from a function into its driver; its recursion depth on top of the
 * driver's; bytecode that is brought up to date when tracers change meanwhile.
 *
 * Between two switches no Python code may run, or it would find the function in
 * the middle of a switch. So nothing is dropped there that could be the last
 * reference: that waits until the driver runs again (vg_carry_back). */
#include <Python.h>
#include <frameobject.h>
#include <stdint.h>
#include "wait.h"

#ifdef Py_GIL_DISABLED
#  error "verdigris does not support free-threaded builds of CPython"
#endif

/* What belongs to a function. Rust sees opaque words (thread_state/mod.rs), which
 * are zero at first. */
typedef struct {
    /* While it runs: the driver's context, and the exception that the driver
     * handles, or NULL. */
    PyObject *context;
    PyObject *handled;
    /* A Context.run is open where it waits, or a greenlet with a context of its
     * own waits: that is left as it is. */
    int keeps_context;
    /* Then: the driver's context when that was first so. The end of the
     * Context.run leads back to it. */
    PyObject *beneath;
    /* While it waits in an except block of its own: what a driver handled when the
     * block was entered. The end of the block leads back to it. */
    PyObject *buried;
    /* To be dropped when the driver runs again. */
    PyObject *dropped;
    /* The greenlet that waits, while it does; the driver's while it runs. Both are
     * borrowed: the carrier holds them. */
    PyObject *waiting;
    PyObject *driver;
} vg_stack;

typedef struct vg_driver vg_driver; /* nothing is kept there */

#define VG_STACK_WORDS 50
_Static_assert(sizeof(vg_stack) <= VG_STACK_WORDS * 8, "VG_STACK_WORDS");

/* greenlet's getcurrent(), and the names of attributes, all there before the first
 * function begins. */
static PyObject *(*get_current)(void);
static PyObject *name_context, *name_frame, *name_suspended, *name_code, *name_flags;
static PyObject *origin_depth;

int vg_check_interpreter(void); /* shared.c */

int vg_init(void)
{
    if (vg_check_interpreter() < 0) {
        return -1;
    }
    name_context = PyUnicode_InternFromString("gr_context");
    name_frame = PyUnicode_InternFromString("gr_frame");
    name_suspended = PyUnicode_InternFromString("cr_suspended");
    name_code = PyUnicode_InternFromString("gi_code");
    name_flags = PyUnicode_InternFromString("co_flags");
    if (!name_context || !name_frame || !name_suspended || !name_code || !name_flags) {
        return -1;
    }
    origin_depth = Py_XNewRef(PySys_GetObject("get_coroutine_origin_tracking_depth"));
    return 0;
}

void vg_carry_with(PyObject *(*getcurrent)(void))
{
    get_current = getcurrent;
}

/* ---- small things ------------------------------------------------------- */

/* What is asked of Python objects here is asked while an exception may be on its
 * way to the function or to the driver. */
typedef struct {
#if PY_VERSION_HEX < 0x030c0000
    PyObject *class, *value, *traceback;
#else
    PyObject *value;
#endif
} pending;

static pending put_aside(void)
{
    pending p;
#if PY_VERSION_HEX < 0x030c0000
    PyErr_Fetch(&p.class, &p.value, &p.traceback);
#else
    p.value = PyErr_GetRaisedException();
#endif
    return p;
}

/* Also drops what failed meanwhile: there is nobody to tell. */
static void put_back(pending p)
{
#if PY_VERSION_HEX < 0x030c0000
    PyErr_Restore(p.class, p.value, p.traceback);
#else
    PyErr_SetRaisedException(p.value);
#endif
}

/* Borrowed: the thread holds its current greenlet. */
static PyObject *current_greenlet(void)
{
    PyObject *greenlet = get_current();
    Py_XDECREF(greenlet);
    return greenlet;
}

/* An attribute (new reference); NULL where it is None or can't be had. */
static PyObject *attribute(PyObject *object, PyObject *name)
{
    if (object == NULL) {
        return NULL;
    }
    PyObject *found = PyObject_GetAttr(object, name);
    if (found == NULL) {
        PyErr_Clear();
    }
    else if (found == Py_None) {
        Py_CLEAR(found);
    }
    return found;
}

static void set_context(PyObject *greenlet, PyObject *context)
{
    if (PyObject_SetAttr(greenlet, name_context, context ? context : Py_None) < 0) {
        PyErr_Clear();
    }
}

/* ---- threads ------------------------------------------------------------ */

uint64_t vg_thread_id(PyThreadState *ts)
{
    return PyThreadState_GetID(ts);
}

int vg_thread_lives(uint64_t id)
{
    PyThreadState *ts = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    while (ts != NULL && PyThreadState_GetID(ts) != id) {
        ts = PyThreadState_Next(ts);
    }
    return ts != NULL;
}

int vg_origin_depth(PyThreadState *ts)
{
    (void)ts;
    PyObject *depth = origin_depth ? PyObject_CallNoArgs(origin_depth) : NULL;
    long number = depth ? PyLong_AsLong(depth) : 0;
    Py_XDECREF(depth);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return 0;
    }
    return (int)number;
}

/* ---- native stacks: never used ------------------------------------------ */

#define NEVER(function, ...)                                                       \
    void function(__VA_ARGS__)                                                     \
    {                                                                              \
        Py_FatalError("verdigris: native stacks on an interpreter whose thread "   \
                      "state is not known");                                       \
    }

NEVER(vg_make, vg_stack *s, void *chunk, size_t size, uintptr_t low, uintptr_t top)
NEVER(vg_begin, PyThreadState *ts, vg_stack *s)
NEVER(vg_enter, PyThreadState *ts, vg_stack *s, vg_driver *d)
NEVER(vg_leave, PyThreadState *ts, vg_stack *s, const vg_driver *d)
NEVER(vg_end, PyThreadState *ts, vg_stack *s, const vg_driver *d)

/* The frames of two greenlets are never linked. */
void vg_stop_linking_frames(void)
{
}

void vg_unlink_frames(vg_stack *s)
{
    (void)s;
}

int vg_has_room(PyThreadState *ts, vg_stack *s)
{
    (void)ts;
    (void)s;
    return 1; /* what is left of the recursion limit is not public */
}

/* Trace functions are not counted. */
void vg_give_up(PyThreadState *ts, vg_stack *s)
{
    (void)ts;
    (void)s;
}

/* ---- handled exceptions -------------------------------------------------- */

/* The public API shows the exception that is handled innermost, and sets the
 * innermost item of the chain. There is one item for the greenlet, and one for
 * each generator that runs on it: into such a one nothing of ours may go. */
static int is_inside_generator(PyThreadState *ts)
{
    int inside = 0;
    int collects = PyGC_Disable(); /* frame objects are made, and see above */
    PyFrameObject *frame = PyThreadState_GetFrame(ts);
    while (frame != NULL && !inside) {
        PyObject *generator = PyFrame_GetGenerator(frame);
        inside = generator != NULL;
        Py_XDECREF(generator);
        PyFrameObject *back = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    Py_XDECREF(frame);
    if (collects) {
        PyGC_Enable();
    }
    return inside;
}

static void show_handled(PyThreadState *ts, vg_stack *s)
{
    if (s->handled == NULL) {
        return;
    }
    PyObject *seen = PyErr_GetHandledException();
    if (seen == NULL && !is_inside_generator(ts)) {
        PyErr_SetHandledException(s->handled);
    }
    Py_XDECREF(seen); /* the function's own, which it goes on handling */
}

static void hide_handled(vg_stack *s)
{
    PyObject *seen = PyErr_GetHandledException();
    if (seen != NULL && seen != s->handled && seen != s->buried) {
        if (s->buried == NULL) {
            s->buried = Py_XNewRef(s->handled);
        }
    }
    else {
        if (seen != NULL) {
            PyErr_SetHandledException(NULL);
        }
        s->dropped = s->buried;
        s->buried = NULL;
    }
    Py_XDECREF(seen);
}

/* Whether the code that runs now handles an exception that its driver does not.
 * `s` is the function that runs, or NULL. */
int vg_is_handling_in(vg_stack *s)
{
    PyObject *seen = PyErr_GetHandledException();
    Py_XDECREF(seen); /* only compared */
    return seen != NULL && (s == NULL || (seen != s->handled && seen != s->buried));
}

/* ---- a switch: see carry.c ------------------------------------------------ */

void vg_carry_make(vg_stack *s)
{
    (void)s;
}

void vg_carry_park(PyThreadState *ts, vg_stack *s, vg_driver *d)
{
    (void)ts;
    (void)d;
    pending p = put_aside();
    s->driver = current_greenlet();
    PyObject *context = attribute(s->driver, name_context);
    if (context == NULL) {
        /* As the first ContextVar.set would: what is set in the function is the
         * driver's too. */
        context = PyContext_New();
        if (context != NULL) {
            set_context(s->driver, context);
        }
    }
    Py_XSETREF(s->context, context);
    Py_XSETREF(s->handled, PyErr_GetHandledException());
    put_back(p);
}

void vg_carry_arrive(PyThreadState *ts, vg_stack *s, const vg_driver *d, int is_base)
{
    (void)d;
    pending p = put_aside();
    s->waiting = NULL;
    if (!s->keeps_context && s->context != NULL) {
        set_context(current_greenlet(), s->context);
    }
    if (is_base) {
        show_handled(ts, s);
    }
    put_back(p);
}

void vg_carry_begin(PyThreadState *ts, vg_stack *s, const vg_driver *d)
{
    s->keeps_context = 0;
    vg_carry_arrive(ts, s, d, 1);
}

void vg_carry_let_go(vg_stack *s)
{
    s->driver = NULL;
}

/* The greenlet that waits is the one that runs. */
void vg_carry_note_frames(PyThreadState *ts, vg_stack *s)
{
    (void)ts;
    s->waiting = current_greenlet();
}

void vg_carry_leave(PyThreadState *ts, vg_stack *s, const vg_driver *d, int is_base)
{
    (void)d;
    pending p = put_aside();
    vg_carry_note_frames(ts, s);
    PyObject *context = attribute(s->waiting, name_context);
    Py_XDECREF(context); /* the greenlet holds it */
    if (context == s->context || (context != NULL && context == s->beneath)) {
        /* The driver's: the next step has that of its own driver. */
        set_context(s->waiting, NULL);
        s->keeps_context = 0;
    }
    else {
        if (s->beneath == NULL) {
            s->beneath = Py_XNewRef(s->context);
        }
        s->keeps_context = 1;
    }
    if (is_base) {
        hide_handled(s);
    }
    vg_carry_let_go(s);
    put_back(p);
}

void vg_carry_end(PyThreadState *ts, vg_stack *s)
{
    (void)ts;
    pending p = put_aside();
    vg_carry_let_go(s);
    s->waiting = NULL;
    s->keeps_context = 0;
    set_context(current_greenlet(), NULL);
    PyErr_SetHandledException(NULL);
    s->dropped = s->buried;
    s->buried = NULL;
    put_back(p);
}

/* The driver runs again, and nothing of its own may be held any more. */
void vg_carry_back(vg_stack *s)
{
    pending p = put_aside();
    vg_carry_let_go(s);
    Py_CLEAR(s->context);
    Py_CLEAR(s->handled);
    Py_CLEAR(s->dropped);
    if (!s->keeps_context) {
        Py_CLEAR(s->beneath);
    }
    put_back(p);
}

/* ---- frames, functions, coroutines ---------------------------------------- */

PyObject *vg_suspended_frame(PyThreadState *ts, vg_stack *s)
{
    (void)ts;
    return attribute(s->waiting, name_frame);
}

/* The innermost frame of whoever drives `inner`, which runs. */
PyObject *vg_driving_frame(PyThreadState *ts, vg_stack *inner)
{
    (void)ts;
    return attribute(inner->driver, name_frame);
}

int vg_is_iterable_coroutine(PyObject *op)
{
    if (!PyGen_CheckExact(op)) {
        return 0;
    }
    PyObject *code = attribute(op, name_code);
    PyObject *flags = attribute(code, name_flags);
    long bits = flags ? PyLong_AsLong(flags) : 0;
    Py_XDECREF(flags);
    Py_XDECREF(code);
    return (bits & CO_ITERABLE_COROUTINE) != 0;
}

int vg_coroutine_is_suspended(PyObject *coroutine)
{
    PyObject *suspended = attribute(coroutine, name_suspended);
    Py_XDECREF(suspended);
    return suspended == Py_True;
}

static PyObject *function_of(PyObject *fn)
{
    if (PyMethod_Check(fn)) {
        fn = PyMethod_Function(fn);
    }
    return PyFunction_Check(fn) ? fn : NULL;
}

int vg_is_plain_function(PyObject *fn)
{
    return PyFunction_Check(fn) && PyFunction_GetClosure(fn) == NULL &&
           PyFunction_GetDefaults(fn) == NULL && PyFunction_GetKwDefaults(fn) == NULL;
}

int vg_function_names(PyObject *fn, PyObject **name, PyObject **qualname)
{
    fn = function_of(fn);
    if (fn == NULL) {
        return 0;
    }
    pending p = put_aside();
    *name = PyObject_GetAttrString(fn, "__name__");
    *qualname = PyObject_GetAttrString(fn, "__qualname__");
    Py_XDECREF(*name); /* both are the function's */
    Py_XDECREF(*qualname);
    put_back(p);
    return *name != NULL && *qualname != NULL;
}

PyObject *vg_function_code(PyObject *fn)
{
    fn = function_of(fn);
    return fn ? PyFunction_GetCode(fn) : NULL;
}

PyObject *vg_unstarted_frame(PyThreadState *ts, PyObject *fn)
{
    fn = function_of(fn);
    if (fn == NULL) {
        Py_RETURN_NONE;
    }
    return (PyObject *)PyFrame_New(ts, (PyCodeObject *)PyFunction_GetCode(fn),
                                   PyFunction_GetGlobals(fn), NULL);
}

PyObject *vg_current_coroutine(PyThreadState *ts)
{
    PyFrameObject *frame = PyThreadState_GetFrame(ts);
    PyObject *generator = frame ? PyFrame_GetGenerator(frame) : NULL;
    Py_XDECREF(frame);
    Py_XDECREF(generator); /* it runs, and so somebody else holds it */
    return generator != NULL && PyCoro_CheckExact(generator) ? generator : NULL;
}

/* ---- garbage collection --------------------------------------------------- */

/* What is known to be owned. The frames are not, so what they refer to lives as
 * long as the function waits. */
int vg_visit_stack(vg_stack *s, const vg_wait *innermost, visitproc visit, void *arg)
{
    Py_VISIT(s->context);
    Py_VISIT(s->handled);
    Py_VISIT(s->beneath);
    Py_VISIT(s->buried);
    Py_VISIT(s->dropped);
    for (const vg_wait *wait = innermost; wait != NULL; wait = wait->outer) {
        if (wait->owned) {
            Py_VISIT(wait->awaited);
        }
    }
    return 0;
}
