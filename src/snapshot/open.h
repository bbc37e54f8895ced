/* A snapshot that is read, as the files of this room share it. */
#ifndef AERIE_SRC_SNAPSHOT_OPEN_H
#define AERIE_SRC_SNAPSHOT_OPEN_H

#include "manifest.h"

struct snapshot {
	char *path;
	int dir_fd;
	struct manifest manifest;
	char *config; /* JSON text, config_len bytes */
	size_t config_len;
	void *state_blob;
	struct state_file state;
	uint64_t *pages;       /* NULL: `memory` is all of RAM */
	struct snapshot *base; /* NULL: it stands alone */
};

int snapshot_open_memory(const struct snapshot *snapshot, struct err *err); /* a descriptor */

#endif
