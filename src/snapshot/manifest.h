/*
 * manifest.json: what belongs to a snapshot, its checksums, and where it was made. JSON whose last two
 * lines are
 *
 *	\t"manifest_crc32c":\t"xxxxxxxx"\n}\n
 *
 * where xxxxxxxx is the CRC-32C, in hexadecimal, of all bytes before these two lines. So no byte of the file
 * can change without being noticed, and people can still read it.
 *
 *	format		1; a reader refuses a larger one
 *	aerie		version of the writer, for people
 *	id		32 hexadecimal digits, random
 *	base		absent, or {"path", "id"}: the snapshot that this one stands on
 *	files		{name: {"bytes", "crc32c"}}; of memory and pages see ram.h
 *	host		{"vendor", "cpu", "kernel", "nested", "nested_state_bytes"}: for messages
 *	disks		[{"path", "bytes", "mtime_ns", "read_only"}]: as they were when it stood still
 */
#ifndef AERIE_SRC_SNAPSHOT_MANIFEST_H
#define AERIE_SRC_SNAPSHOT_MANIFEST_H

#include "base/err.h"
#include "config/config.h"
#include "snapshot/snapshot.h"

enum { SNAPSHOT_FORMAT = 1, MANIFEST_BYTES_MAX = 1 << 20, MANIFEST_TEXT_BYTES = 96 };

enum manifest_file { FILE_CONFIG, FILE_STATE, FILE_MEMORY, FILE_PAGES, MANIFEST_FILES };
extern const char *const manifest_file_names[MANIFEST_FILES];
#define MANIFEST_NAME "manifest.json"

struct manifest_disk {
	char *path;
	uint64_t bytes;
	uint64_t mtime_ns;
	bool read_only;
};

struct manifest {
	char id[SNAPSHOT_ID_CHARS + 1];
	char *base_path; /* NULL: it stands alone */
	char base_id[SNAPSHOT_ID_CHARS + 1];
	struct {
		bool present;
		uint64_t bytes;
		uint32_t crc32c;
	} files[MANIFEST_FILES];
	struct {
		char vendor[MANIFEST_TEXT_BYTES], cpu[MANIFEST_TEXT_BYTES], kernel[MANIFEST_TEXT_BYTES];
		char nested[MANIFEST_TEXT_BYTES];
		uint64_t nested_state_bytes;
	} host;
	size_t disk_count;
	struct manifest_disk disks[CONFIG_DEVICES_MAX];
};

/* This host, and an id of its own. */
int manifest_init(struct manifest *manifest, struct err *err);
void manifest_finish(struct manifest *manifest);

/* Files of the config's disks and pmem devices as they are now. */
int manifest_add_disks(struct manifest *manifest, const struct machine_config *config, struct err *err);
/* Those that the config still names are what they were; a disk under another path is the operator's business.
 */
int manifest_check_disks(const struct manifest *manifest, const struct machine_config *config,
			 struct err *err);

/* The text; the caller frees it. NULL when out of memory. */
char *manifest_print(const struct manifest *manifest);
/* `name` for messages. On failure nothing is left in *ret. */
int manifest_parse(const char *name, const char *text, size_t len, struct manifest *ret, struct err *err);

#endif
