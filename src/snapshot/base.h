/* What an incremental snapshot stands on, as the files of this room share it. */
#ifndef AERIE_SRC_SNAPSHOT_BASE_H
#define AERIE_SRC_SNAPSHOT_BASE_H

#include "manifest.h"

/* Sets the bits of pages written since the base was created, and names it in `manifest`. The base stays as
 * good as it was: a snapshot that fails can be tried again. */
int snapshot_base_take(struct snapshot_base *base, uint64_t *pages, struct manifest *manifest,
		       struct err *err);

const char *snapshot_save_id(const struct snapshot_save *save);
const char *snapshot_save_path(const struct snapshot_save *save);

#endif
