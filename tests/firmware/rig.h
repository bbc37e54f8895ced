/*
 * A machine for the loaders: real RAM without KVM, and files that live in memfds. A test changes `config`,
 * hands in an image, and looks at RAM or at the refusal.
 */
#ifndef AERIE_TESTS_FIRMWARE_RIG_H
#define AERIE_TESTS_FIRMWARE_RIG_H

#include "base/bytes.h"
#include "base/layout.h"
#include "firmware/firmware.h"
#include "harness.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RIG_FILES = 24, RIG_PATH_BYTES = 32 };

struct rig {
	struct machine_config config;
	struct guest_memory *memory;
	struct cpu_boot boot;
	struct err err;
	int files[RIG_FILES];
	char paths[RIG_FILES][RIG_PATH_BYTES];
	size_t file_count;
};

static inline void rig_open(struct rig *rig, uint64_t ram_bytes)
{
	*rig = (struct rig){
		.config =
			{
				.name = "rig",
				.cpus = {.count = 1, .sockets = 1, .cores = 1, .threads = 1},
				.memory = {.size_bytes = ram_bytes},
				.boot = {.cmdline = ""},
				.serial_count = 1,
			},
	};
	struct err err = ERR_INIT;
	ck_assert_int_eq(guest_memory_create(&rig->config.memory, &rig->memory, &err), 0);
}

static inline void rig_close(struct rig *rig)
{
	guest_memory_destroy(rig->memory);
	for (size_t i = 0; i < rig->file_count; i++)
		close(rig->files[i]);
}

/* The path of a new file with these bytes. */
static inline const char *rig_file(struct rig *rig, const void *bytes, size_t len)
{
	ck_assert_uint_lt(rig->file_count, RIG_FILES);
	size_t i = rig->file_count++;
	rig->files[i] = memfd_create("rig", MFD_CLOEXEC);
	ck_assert_int_ge(rig->files[i], 0);
	ck_assert_int_eq(write(rig->files[i], bytes, len), (ssize_t)len);
	snprintf(rig->paths[i], sizeof(rig->paths[i]), "/proc/self/fd/%d", rig->files[i]);
	return rig->paths[i];
}

/* Load this image; the answer of firmware_load. */
static inline int rig_load(struct rig *rig, const void *image, size_t len)
{
	if (rig->file_count == 0 || rig->config.boot.kernel == NULL) {
		rig->config.boot.kernel = rig_file(rig, image, len);
	} else {
		int fd = -1;
		ck_assert_int_eq(sscanf(rig->config.boot.kernel, "/proc/self/fd/%d", &fd), 1);
		ck_assert_int_eq(ftruncate(fd, 0), 0);
		ck_assert_int_eq(pwrite(fd, image, len, 0), (ssize_t)len);
	}
	rig->err = ERR_INIT;
	return firmware_load(&rig->config, rig->memory, &rig->boot, &rig->err);
}

static inline void *rig_ram(const struct rig *rig, uint64_t gpa, uint64_t len)
{
	void *at = guest_memory_at(rig->memory, gpa, len);
	ck_assert_ptr_nonnull(at);
	return at;
}

static inline uint32_t rig_le32(const struct rig *rig, uint64_t gpa)
{
	return load_le32(rig_ram(rig, gpa, 4));
}

static inline uint64_t rig_le64(const struct rig *rig, uint64_t gpa)
{
	return load_le64(rig_ram(rig, gpa, 8));
}

static inline const char *rig_string(const struct rig *rig, uint64_t gpa)
{
	return rig_ram(rig, gpa, 1);
}

/* One line, the file's or the key's name first, and what the test expects in it. */
#define rig_assert_loads(rig, image, len)                                                                    \
	do {                                                                                                 \
		int loads_ = rig_load(rig, image, len);                                                      \
		ck_assert_msg(loads_ == 0, "refused: %s", (rig)->err.text);                                  \
	} while (0)

#define rig_assert_refuses(rig, image, len, part)                                                            \
	do {                                                                                                 \
		int refused_ = rig_load(rig, image, len);                                                    \
		ck_assert_msg(refused_ == -EINVAL, "answer %d, wanted a refusal with: %s", refused_, part);  \
		ck_assert_msg(strstr((rig)->err.text, part), "\"%s\" lacks \"%s\"", (rig)->err.text, part);  \
		ck_assert_ptr_null(strchr((rig)->err.text, '\n'));                                           \
	} while (0)

#endif
