/*
 * A machine on disk. A snapshot is a directory:
 *
 *	config.json	what was asked for, all paths absolute (docs/config.md)
 *	state.dtb	what the machine was doing (state/file.h, machine/machine.h)
 *	memory		RAM, region after region as guest_memory_regions has them; pages of zeros are holes
 *	pages		only with a base: which pages `memory` has, a bit for each page of 4 KiB,
 *			little-endian; the others are the base's
 *	manifest.json	what belongs together, with checksums, and where it was made (src/snapshot/manifest.h)
 *
 * It is written beside its final name and exchanged for what was there: a kill at any moment leaves the old
 * or the new, never a half. Reading takes nothing for granted: everything is checked before a machine is
 * made of it.
 */
#ifndef AERIE_SNAPSHOT_SNAPSHOT_H
#define AERIE_SNAPSHOT_SNAPSHOT_H

#include "base/err.h"
#include "config/config.h"
#include "machine/machine.h"
#include "state/file.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SNAPSHOT_ID_CHARS = 32 };

/* ---- making one ---- */

struct snapshot_save;

/* What an incremental snapshot stands on; see snapshot_base_create. */
struct snapshot_base;

/*
 * Takes all of a paused machine (machine_pause(SAVE_VM)) but RAM: its state, its config, its disks flushed.
 * `dir` is where it shall be; its parent exists. `base` NULL: all of RAM; else what was written since that
 * base was started, which must be a complete snapshot by now. The machine stays as it is until
 * snapshot_save_write is done. The machine's thread.
 */
int snapshot_save_begin(struct machine *machine, const char *dir, struct snapshot_base *base,
			struct snapshot_save **ret, struct err *err);
/*
 * From now on what is written to RAM is remembered, for a snapshot on top of `save`. Between
 * snapshot_save_begin and machine_continue, on the machine's thread. Costs the guest a fault for each page
 * that it writes first. -EOPNOTSUPP: a vhost-user device writes without telling us. The base must go before
 * the machine does.
 */
int snapshot_base_create(struct machine *machine, const struct snapshot_save *save,
			 struct snapshot_base **ret, struct err *err);
void snapshot_base_free(struct snapshot_base *base); /* NULL is fine */
/* Is it the base that lies at `path`? -EINVAL with a message: another snapshot, or none. */
int snapshot_base_check(const struct snapshot_base *base, const char *path, struct err *err);
/* Writes it to disk: slow. Any one thread; nothing of the machine may run or change meanwhile. */
int snapshot_save_write(struct snapshot_save *save, struct err *err);
/* Bytes written, and to be written at most. Any thread. */
void snapshot_save_progress(const struct snapshot_save *save, uint64_t *ret_done, uint64_t *ret_total);
/* write ends soon, with -ECANCELED. Any thread. */
void snapshot_save_cancel(struct snapshot_save *save);
/* Of the machine's RAM in it, bytes; after write. */
uint64_t snapshot_save_bytes(const struct snapshot_save *save);
void snapshot_save_free(
	struct snapshot_save *save); /* NULL is fine; an unfinished one leaves nothing behind */

/* ---- reading one ---- */

struct snapshot;

/* All but RAM, read and checked against damage. Usable without KVM and without the machine's files. */
int snapshot_open(const char *dir, struct snapshot **ret, struct err *err);
void snapshot_close(struct snapshot *snapshot); /* NULL is fine */
const struct state_file *snapshot_state(const struct snapshot *snapshot);
const char *snapshot_id(const struct snapshot *snapshot);

/* The machine's config with overrides, as config_load. */
int snapshot_config(const struct snapshot *snapshot, const char *const *set, size_t set_count,
		    struct machine_config **ret, struct err *err);

/*
 * Can the machine go on here, with this config? Vendor, CPU features, nested state, disks: named is what
 * stands in the way. Nothing is made or changed.
 */
int snapshot_check(const struct snapshot *snapshot, const struct machine_config *config, struct err *err);

/*
 * A machine from machine_create_incoming with RAM and state as they were, clocks as if no time had passed.
 * `lazy`: RAM is read when it is touched, from the file, which must stay (guest_memory_map_file); else all of
 * it is read and checked. Calls snapshot_check first; `ret_refused` (NULL: not asked for) says whether it was
 * that which failed.
 */
int snapshot_restore(const struct snapshot *snapshot, const struct machine_config *config, bool lazy,
		     struct machine **ret, bool *ret_refused, struct err *err);

/* Writes the snapshot, with all that it stands on, to `out` as one that stands alone. Both are directories.
 */
int snapshot_flatten(const char *dir, const char *out, struct err *err);

#endif
