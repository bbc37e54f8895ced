/*
 * I/O threads: each has one event loop that only it touches. Devices live on one of them; what a vCPU thread
 * has to tell a device is posted there.
 */
#ifndef AERIE_HOST_IOTHREAD_H
#define AERIE_HOST_IOTHREAD_H

#include "base/err.h"
#include "host/loop.h"

struct iothread;

/* Starts the thread, named `name`, and waits until its loop stands. */
int iothread_create(const char *name, struct iothread **ret, struct err *err);
void iothread_destroy(struct iothread *thread); /* quits and joins; NULL is fine; no op may be pending */

struct loop *iothread_loop(struct iothread *thread);

/* Run fn(arg) on the thread and wait for its result. Not from the thread itself. */
int iothread_call(struct iothread *thread, int (*fn)(void *arg), void *arg);

#endif
