/* The ring itself: which modes this kernel knows, and what can be registered with it. */
#include "loop_impl.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <string.h>
#include <sys/resource.h>

/* The kernel takes no larger buffer in one registration. */
#define BUFFER_MAX_BYTES (UINT64_C(1) << 30)

/* Results that can wait in the ring while we are busy: more only take a slower way through the kernel. */
enum { RESULTS_MIN = 4096 };

/* What this kernel's io_uring can do, best first. (The ring's own descriptor is not registered: its number
 * would mean another ring, or none, on another thread, such as one that destroys what a loop was used for.)
 */
static const struct ring_mode {
	unsigned flags;
	const char *since;
} ring_modes[] = {
	{IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
		 IORING_SETUP_SUBMIT_ALL,
	 "6.1"},
	{IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
		 IORING_SETUP_SUBMIT_ALL,
	 "6.0"},
	{IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL, "5.19"},
	{0, "5.10"},
};

static int explain(struct err *err, int code)
{
	switch (code) {
	case -ENOSYS:
		return err_set(
			err, code,
			"io_uring: this kernel has none; use a Linux 5.15 or later with CONFIG_IO_URING");
	case -EPERM:
	case -EACCES:
		return err_set(err, code,
			       "io_uring: not permitted here; type: sysctl kernel.io_uring_disabled=0 (in a "
			       "container, "
			       "its seccomp profile must allow io_uring_setup, io_uring_enter and "
			       "io_uring_register)");
	case -ENOMEM:
		return err_set(err, code,
			       "io_uring: no memory that may be locked; type: ulimit -l unlimited");
	default:
		return err_sys(err, code, "io_uring");
	}
}

int loop_ring_open(unsigned entries, struct io_uring *ring, struct err *err)
{
	unsigned results = entries * 2 > RESULTS_MIN ? entries * 2 : RESULTS_MIN;
	int res = -EINVAL;
	for (size_t i = 0; i < ARRAY_LEN(ring_modes) && res == -EINVAL; i++) {
		struct io_uring_params params = {.flags = ring_modes[i].flags | IORING_SETUP_CQSIZE,
						 .cq_entries = results};
		res = io_uring_queue_init_params(entries, ring, &params);
		if (res == 0 && i > 0)
			log_info("io_uring: using what Linux %s has; a newer kernel saves some system calls",
				 ring_modes[i].since);
	}
	if (res < 0)
		return explain(err, res);
	return 0;
}

/* ---- files ---- */

/* An empty table, made when the first file comes. */
static int open_table(struct loop *loop)
{
	int none[LOOP_FILES_MAX];
	struct rlimit limit;
	unsigned slots = LOOP_FILES_MAX;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < slots)
		slots = (unsigned)limit.rlim_cur; /* the kernel takes no larger table */
	for (unsigned i = 0; i < slots; i++)
		none[i] = -1;
	int res = io_uring_register_files(&loop->ring, none, slots);
	if (res < 0) {
		loop->files_refused = true;
		log_info("io_uring: cannot register files (%s): each operation looks its file up",
			 strerror(-res));
		return res;
	}
	loop->file_slots = slots;
	return 0;
}

int loop_register_file(struct loop *loop, int fd)
{
	if (fd < 0)
		return -EBADF;
	if (loop->files_refused)
		return -EOPNOTSUPP;
	int res = loop->file_slots ? 0 : open_table(loop);
	if (res < 0)
		return res;
	if ((unsigned)fd >= loop->file_slots)
		return -EMFILE;
	res = io_uring_register_files_update(&loop->ring, (unsigned)fd, &fd, 1);
	if (res < 0)
		return res;
	loop->files[fd / 64] |= UINT64_C(1) << (fd % 64);
	return 0;
}

void loop_unregister_file(struct loop *loop, int fd)
{
	if (fd < 0 || (unsigned)fd >= loop->file_slots || !(loop->files[fd / 64] >> (fd % 64) & 1))
		return;
	int none = -1;
	loop->files[fd / 64] &= ~(UINT64_C(1) << (fd % 64));
	(void)io_uring_register_files_update(&loop->ring, (unsigned)fd, &none, 1);
}

/* ---- memory ---- */

int loop_register_memory(struct loop *loop, const struct iovec *regions, unsigned count)
{
	_cleanup_free_ struct iovec *buffers = calloc(LOOP_BUFFERS_MAX, sizeof(*buffers));
	if (!buffers)
		return -ENOMEM;
	unsigned used = 0;
	for (unsigned i = 0; i < count; i++) {
		for (size_t at = 0; at < regions[i].iov_len; at += BUFFER_MAX_BYTES) {
			if (used == LOOP_BUFFERS_MAX)
				return -E2BIG;
			size_t rest = regions[i].iov_len - at;
			buffers[used].iov_base = (char *)regions[i].iov_base + at;
			buffers[used++].iov_len = rest < BUFFER_MAX_BYTES ? rest : BUFFER_MAX_BYTES;
		}
	}
	if (loop->buffer_count) {
		(void)io_uring_unregister_buffers(&loop->ring);
		free(take_ptr(loop->buffers));
		loop->buffer_count = 0;
	}
	if (used == 0)
		return 0;
	int res = io_uring_register_buffers(&loop->ring, buffers, used);
	if (res < 0)
		return res;
	loop->buffer_count = used;
	loop->buffers = take_ptr(buffers);
	return 0;
}
