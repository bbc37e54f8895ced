/*
 * Guest RAM that goes from one process to another of the same host, by its memfd: nothing is copied.
 *
 * Who gives it: handover_check, guest_memory_fd, and, when the other one has it, handover_leave.
 *
 * Who takes it: handover_accept, handover_try, handover_keep, handover_settle. Between try and keep RAM shows
 * what the memfd holds, but what is written to it (by KVM when vCPUs get their state, by devices) stays with
 * us: until the giver has let go of its guest, not a byte of that guest's RAM is another.
 *
 * Host addresses stay what they are, and so do KVM's slots: only what is mapped there changes. No vCPU runs
 * and no device works in the meantime. One thread at a time.
 */
#ifndef AERIE_MEMORY_HANDOVER_H
#define AERIE_MEMORY_HANDOVER_H

#include "base/err.h"
#include "memory/memory.h"

#include <stdbool.h>
#include <stdint.h>

/* Is this RAM in a memfd that can be handed over, or take the place of which another can? -ENOTSUP names the
 * parameter that stands against it. */
int handover_check(const struct guest_memory *memory, struct err *err);

/*
 * RAM will be what `fd` holds, which is ours from here, also when this fails. -EINVAL: it is no memfd of this
 * size, of this kind of pages, with the seals that aerie's RAM has (which keep its owner from cutting it
 * short under our feet).
 */
int handover_accept(struct guest_memory *memory, int fd, struct err *err);
/* The giver's guest stands: from now on what is written here is noted, and kept back until keep. */
int handover_try(struct guest_memory *memory, struct err *err);
/* After try: the memory is ours. What was kept back goes into it. */
int handover_keep(struct guest_memory *memory, struct err *err);
/* After keep: ends what that needed; the guest may run meanwhile. */
void handover_settle(struct guest_memory *memory);

/*
 * The memory is another's: nothing that we or our KVM still do reaches it. Takes time with the size of RAM.
 * join: it is ours after all.
 */
int handover_leave(struct guest_memory *memory, struct err *err);
int handover_join(struct guest_memory *memory, struct err *err);
bool handover_left(const struct guest_memory *memory);

#endif
