/*
 * The control socket: a UNIX socket that speaks QMP (the QEMU Machine Protocol: docs/interop/qmp-spec of
 * QEMU) to several clients at once. docs/control.md lists its commands and events.
 *
 * All of it runs on the machine's loop and never waits there for a client: what a client does not read is
 * kept up to a bound, beyond which it is not listened to and at last hung up on.
 */
#ifndef AERIE_CONTROL_CONTROL_H
#define AERIE_CONTROL_CONTROL_H

#include "base/err.h"
#include "machine/machine.h"

struct control;

/*
 * Listens on `path` (borrowed), a socket file that only its owner may connect to. After machine_create,
 * before machine_run; the machine is borrowed and outlives the control. On the machine's thread.
 */
int control_create(struct machine *machine, const char *path, struct control **ret, struct err *err);
/* Where the machine comes from, for query-migrate and migrate-recover; borrowed, outlives the control. */
struct incoming;
void control_set_incoming(struct control *control, struct incoming *incoming);
void control_destroy(struct control *control); /* after machine_run; NULL is fine */

#endif
