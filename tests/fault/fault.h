/* What fault.c and fault_socket.c share. */
#ifndef AERIE_TESTS_FAULT_H
#define AERIE_TESTS_FAULT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* As tests/fault/plan.py has it. */
struct plan {
	atomic_int at, code, calls;
	char struck[52]; /* the call that failed */
};

/*
 * What a call can meet: memory runs out, a thing cannot be made, a signal comes, a transfer is short. Of
 * CALL_FILE, CALL_WAIT (a signal, too) and CALL_STREAM (as a transfer) only a plan's spans know.
 */
enum call_kind {
	CALL_MEMORY,
	CALL_MAKE,
	CALL_FILE,
	CALL_WAIT,
	CALL_IOCTL,
	CALL_TRANSFER,
	CALL_STREAM,
	CALL_MSRS
};

/* Is it this call's turn? Then errno is set. */
bool fault_strikes(enum call_kind kind, const char *name, unsigned long number);
/* The code to fail with; 0: a transfer is short. */
int fault_code(void);
/* Half of what was asked for, at least one byte, is what a signal or a slow file leaves. */
size_t fault_shortened(size_t len);

#define REAL(name, type) ((type)(void *)dlsym(RTLD_NEXT, #name))

/* A call that returns -1 when it fails. */
#define WRAP_AS(kind, name, params, types, ...)                                                              \
	int name params;                                                                                     \
	int name params                                                                                      \
	{                                                                                                    \
		if (fault_strikes(kind, #name, 0))                                                           \
			return -1;                                                                           \
		return REAL(name, int(*) types)(__VA_ARGS__);                                                \
	}

#endif
