/* What the collector reads of a wait in progress. */
#ifndef VERDIGRIS_WAIT_H
#define VERDIGRIS_WAIT_H

#include <Python.h>

/* One wait in progress on a stack, in the C frame that waits; `AwaitRecord` in
 * activation.rs. */
typedef struct vg_wait {
    /* What is waited for. */
    PyObject *awaited;
    /* For `await_`: where its arguments lie. For an `await` statement whose
     * function shares the stack: NULL. */
    PyObject *const *args;
    /* For such a statement: the coroutine it stands in. */
    PyObject *awaiter;
    /* Whether the C frame holds a reference to `awaited`. */
    int owned;
    /* The wait further out on the same stack. */
    const struct vg_wait *outer;
} vg_wait;

#endif
