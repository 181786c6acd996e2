/* cProfile, whose entries for the open calls of a stack go and come with it.
 *
 * `_lsprof` keeps one chain of open calls ("contexts"), and adds the time of a call to its function
 * and its caller when the innermost is popped. There is no event that takes a call off and back again
 * without counting it, so the chain itself is cut where the stack begins:
 *
 *     while it runs      current -> leaf -> branch -> | driver -> loop -> ...
 *     while it waits     current -> driver -> loop -> ...      (kept: leaf -> branch)
 *
 * So each call is counted once, by its own function, and the time is that in which it ran. The time
 * in which it waited is the loop's. To the driver the stack's outermost call is a call of its own in
 * each of its steps: it gets the time of the step.
 *
 * The structs below are private to `_lsprof`, and have been the same from 3.11 to 3.15. The size of
 * its object is checked, and from 3.12 on what a call does to a profiler made for the purpose. Where
 * either differs, nothing is done, and times are mixed up as they were.
 */
#include "tools.h"

#if PY_VERSION_HEX >= 0x030d0000
typedef PyTime_t duration;
#else
typedef _PyTime_t duration;
#endif

/* A node of a binary search tree, by address. */
typedef struct node {
    void *key;
    struct node *left, *right;
} node;

/* Calls of a function by one caller. The key is the function's `function_entry`. */
typedef struct {
    node header;
    duration total, inside;
    long calls, recursive_calls, level;
} caller_entry;

/* A function. The key is its code, or what stands for it. */
typedef struct {
    node header;
    PyObject *object;
    duration total, inside;
    long calls, recursive_calls, level;
    node *callees;
} function_entry;

/* An open call. */
typedef struct call {
    duration began, in_callees;
    struct call *previous;
    function_entry *function;
} call;

typedef struct {
    PyObject_HEAD
    node *functions;
    call *current;
    call *spare;
    int flags;
    PyObject *timer;
    double timer_unit;
#if PY_VERSION_HEX >= 0x030c0000
    int tool_id;
    PyObject *missing;
#endif
} profiler;

/* What a stack keeps. */
struct vg_calls {
    profiler *of; /* a reference */
    call *driver; /* the innermost call below the stack's, or NULL */
    /* While it waits: its calls, and the keys of their functions. A profiler that was cleared
     * meanwhile has them no more. */
    call *innermost, *outermost;
    void **keys;
    size_t count;
    duration left_at;
};

static duration now(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    PyTime_t time;
    return PyTime_PerfCounterRaw(&time) < 0 ? 0 : time;
#else
    return _PyTime_GetPerfCounter();
#endif
}

static node *find(node *root, const void *key)
{
    while (root != NULL && root->key != key) {
        root = (uintptr_t)key < (uintptr_t)root->key ? root->left : root->right;
    }
    return root;
}

/* ---- the profiler that is on ----------------------------------------------- */

static PyTypeObject *base_type(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    while (type != NULL && strcmp(type->tp_name, "_lsprof.Profiler") != 0) {
        type = type->tp_base;
    }
    return type;
}

#if PY_VERSION_HEX >= 0x030c0000
/* Whether a call does to a profiler what the structs above say. */
static int layout_holds(PyTypeObject *type)
{
    int holds = 0;
    PyObject *made = PyObject_CallNoArgs((PyObject *)type), *done = NULL;
    PyCodeObject *code = PyCode_NewEmpty("<verdigris>", "probe", 0);
    if (made != NULL && code != NULL) {
        profiler *p = (profiler *)made;
        if (p->functions == NULL && p->current == NULL && p->timer == NULL) {
            done = PyObject_CallMethod(made, "_pystart_callback", "Oi", code, 0);
        }
        if (done != NULL && p->current != NULL && p->functions != NULL) {
            call *c = p->current;
            holds = c->previous == NULL && c->in_callees == 0 &&
                    (node *)c->function == p->functions && p->functions->key == (void *)code &&
                    c->function->object == (PyObject *)code && c->function->level == 1;
        }
    }
    PyErr_Clear();
    Py_XDECREF(done);
    Py_XDECREF((PyObject *)code);
    Py_XDECREF(made);
    return holds;
}
#else
static int layout_holds(PyTypeObject *type)
{
    (void)type;
    return 1; /* 3.11 has had its last release but for security */
}
#endif

/* The thread's cProfile, borrowed, or NULL. */
static profiler *active_profiler(PyThreadState *ts)
{
#if PY_VERSION_HEX >= 0x030c0000
    /* sys.monitoring.PROFILER_ID */
    PyObject *heard = ts->interp->monitoring_callables[2][PY_MONITORING_EVENT_PY_START];
    PyObject *found =
        heard != NULL && PyCFunction_Check(heard) ? PyCFunction_GET_SELF(heard) : NULL;
#else
    PyObject *found = ts->c_profilefunc != NULL ? ts->c_profileobj : NULL;
#endif
    if (found == NULL) {
        return NULL;
    }
    static PyTypeObject *known;
    static int holds;
    PyTypeObject *type = base_type(found);
    if (type == NULL) {
        return NULL;
    }
    if (type != known) {
        Py_INCREF(type);
        known = type;
        holds = 0; /* while it is asked */
        holds = type->tp_basicsize == sizeof(profiler) && layout_holds(type);
    }
    /* What a timer of the program's own says is not asked for: that is Python code. */
    return holds && ((profiler *)found)->timer == NULL ? (profiler *)found : NULL;
}

/* ---- taking the calls and putting them back -------------------------------- */

/* One more, or one less, of this call is open: as a call, and as one by that caller. */
static void count_open(const call *c, const call *caller, int change)
{
    c->function->level += change;
    node *by = caller == NULL ? NULL : find(caller->function->callees, c->function);
    if (by != NULL && ((caller_entry *)by)->level + change >= 0) {
        ((caller_entry *)by)->level += change;
    }
}

static void drop_calls(struct vg_calls *kept)
{
    call *c = kept->innermost;
    while (kept->count > 0) {
        call *previous = c->previous;
        PyMem_Free(c);
        c = previous;
        kept->count--;
    }
    kept->innermost = kept->outermost = NULL;
    PyMem_Free(kept->keys);
    kept->keys = NULL;
}

void vg_forget_calls(vg_stack *s)
{
    struct vg_calls *kept = s->calls;
    s->calls = NULL;
    drop_calls(kept);
    Py_XDECREF((PyObject *)kept->of);
    PyMem_Free(kept);
}

static struct vg_calls *kept_for(vg_stack *s, profiler *p)
{
    if (s->calls == NULL) {
        s->calls = PyMem_Calloc(1, sizeof(struct vg_calls));
        if (s->calls == NULL) {
            return NULL;
        }
        s->left = 1; /* so that its end looks at what it has */
    }
    struct vg_calls *kept = s->calls;
    if (kept->of != p) {
        drop_calls(kept);
        kept->driver = NULL; /* made inside: all that it has is the stack's */
        PyObject *before = (PyObject *)kept->of;
        kept->of = (profiler *)Py_NewRef((PyObject *)p);
        Py_XDECREF(before);
    }
    return kept;
}

static int still_known(const struct vg_calls *kept)
{
    const call *c = kept->innermost;
    for (size_t i = 0; i < kept->count; i++, c = c->previous) {
        if (find(kept->of->functions, kept->keys[i]) != (node *)c->function) {
            return 0;
        }
    }
    return 1;
}

void vg_lsprof_enter(PyThreadState *ts, vg_stack *s)
{
    profiler *p = active_profiler(ts);
    if (p == NULL) {
        if (s->calls != NULL) {
            vg_forget_calls(s);
        }
        return;
    }
    struct vg_calls *kept = kept_for(s, p);
    if (kept == NULL) {
        return;
    }
    call *driver = kept->driver = p->current;
    if (kept->count == 0) {
        return;
    }
    if (!still_known(kept)) {
        drop_calls(kept);
        return;
    }
    duration time = now(), away = time - kept->left_at;
    kept->outermost->previous = driver;
    call *c = kept->innermost;
    for (size_t i = 0; i < kept->count; i++, c = c->previous) {
        c->began += away;
        count_open(c, c->previous, 1);
    }
    if (driver != NULL) {
        /* At its end the call adds its whole time to whoever drives it then. */
        driver->in_callees -= time - kept->outermost->began;
    }
    p->current = kept->innermost;
    kept->count = 0;
    kept->innermost = kept->outermost = NULL;
}

void vg_lsprof_leave(PyThreadState *ts, vg_stack *s)
{
    profiler *p = active_profiler(ts);
    struct vg_calls *kept = p == NULL ? NULL : kept_for(s, p);
    if (kept == NULL) {
        return;
    }
    size_t count = 0;
    call *outermost = NULL, *c = p->current;
    for (; c != NULL && c != kept->driver; c = c->previous) {
        outermost = c;
        count++;
    }
    if (c != kept->driver || count == 0) {
        return; /* turned off and on meanwhile */
    }
    void **keys = PyMem_Realloc(kept->keys, count * sizeof(void *));
    if (keys == NULL) {
        return;
    }
    kept->keys = keys;
    kept->count = count;
    kept->innermost = p->current;
    kept->outermost = outermost;
    kept->left_at = now();
    c = p->current;
    for (size_t i = 0; i < count; i++, c = c->previous) {
        keys[i] = c->function->header.key;
        count_open(c, c->previous, -1);
    }
    p->current = kept->driver;
    outermost->previous = NULL;
    if (kept->driver != NULL) {
        kept->driver->in_callees += kept->left_at - outermost->began;
    }
}
