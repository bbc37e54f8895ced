/*
 * A host's disk in memory, below a qcow2 image: it finishes requests in any order, remembers all that was
 * written and synced, can fail, and can tell what would be left of it if the world ended at some moment.
 */
#ifndef AERIE_TESTS_DEVICES_QCOW2_DISK_H
#define AERIE_TESTS_DEVICES_QCOW2_DISK_H

#include "qcow2_rig.h"

enum { DISK_CAPACITY = 64 << 20, DISK_PENDING = 512 };

struct disk_event {
	enum block_command command;
	uint64_t offset, bytes;
	uint8_t *data;
	uint64_t submitted, done; /* UINT64_MAX: not done, or failed */
};

struct disk_pending {
	struct block_request *request;
	size_t event; /* SIZE_MAX: a read */
};

struct disk {
	struct block block;
	uint64_t clock;
	uint64_t seed;
	uint8_t *data, *start;
	uint64_t start_bytes;
	struct disk_event *events;
	size_t event_count, event_capacity;
	bool remembers;
	struct disk_pending pending[DISK_PENDING];
	unsigned pending_count;
	struct loop_op pump;
	/* Changes and syncs until one fails; UINT64_MAX: never. */
	uint64_t fail_after;
	bool fail_on; /* and all after it */
	bool fail_reads;
	int fail_with;
	uint64_t changes;
};

static inline struct disk *disk_of(struct block *block)
{
	return container_of(block, struct disk, block);
}

/* Whoever discards is not told; what fails is told to the guest. */
static inline bool disk_fails(struct disk *disk, enum block_command command)
{
	if (command == BLOCK_DISCARD || (command == BLOCK_READ && !disk->fail_reads))
		return false;
	uint64_t n = disk->changes++;
	return n == disk->fail_after || (disk->fail_on && n > disk->fail_after);
}

static inline size_t disk_note(struct disk *disk, enum block_command command, uint64_t offset, uint64_t bytes)
{
	if (disk->event_count == disk->event_capacity) {
		disk->event_capacity = disk->event_capacity ? disk->event_capacity * 2 : 1024;
		disk->events = reallocarray(disk->events, disk->event_capacity, sizeof(*disk->events));
		if (!disk->events)
			abort();
	}
	disk->events[disk->event_count] = (struct disk_event){.command = command,
							      .offset = offset,
							      .bytes = bytes,
							      .data = calloc(1, bytes + 1),
							      .submitted = ++disk->clock,
							      .done = UINT64_MAX};
	return disk->event_count++;
}

static inline void disk_apply(struct disk *disk, const struct disk_event *event, uint64_t bytes)
{
	uint64_t end = event->offset + bytes;
	memcpy(disk->data + event->offset, event->data, bytes);
	if (event->command != BLOCK_DISCARD && end > disk->block.size_bytes)
		disk->block.size_bytes = end;
}

static inline void disk_read(struct disk *disk, const struct block_request *request)
{
	uint64_t at = request->offset;
	for (unsigned i = 0; i < request->iov_count; i++) {
		uint64_t len = request->iov[i].iov_len;
		uint64_t there = at >= DISK_CAPACITY	    ? 0
				 : DISK_CAPACITY - at < len ? DISK_CAPACITY - at
							    : len;
		memset(request->iov[i].iov_base, 0, len);
		memcpy(request->iov[i].iov_base, disk->data + at * !!there, there);
		at += len;
	}
}

static inline int disk_finish(struct disk *disk, const struct disk_pending *pending)
{
	if (pending->event == SIZE_MAX) {
		disk_read(disk, pending->request);
		return disk_fails(disk, BLOCK_READ) ? disk->fail_with : 0;
	}
	struct disk_event *event = &disk->events[pending->event];
	int res = 0;
	if (disk_fails(disk, event->command)) {
		res = disk->fail_with;
		if (event->command == BLOCK_WRITE) /* some of it may be there */
			disk_apply(disk, event,
				   random_below(&disk->seed, event->bytes / SECTOR + 1) * SECTOR);
	} else {
		disk_apply(disk, event, event->bytes);
		event->done = ++disk->clock;
	}
	if (!disk->remembers) {
		free(event->data);
		event->data = NULL;
	}
	return res;
}

static inline void disk_pump(struct loop_op *op, int res)
{
	struct disk *disk = container_of(op, struct disk, pump);
	(void)res;
	unsigned which = (unsigned)random_below(&disk->seed, disk->pending_count);
	struct disk_pending pending = disk->pending[which];
	disk->pending[which] = disk->pending[--disk->pending_count];
	int result = disk_finish(disk, &pending);
	if (disk->pending_count)
		loop_defer(disk->block.loop, &disk->pump, 0);
	pending.request->done(pending.request, result);
}

static inline void disk_submit(struct block *block, struct block_request *request)
{
	struct disk *disk = disk_of(block);
	if (disk->pending_count == DISK_PENDING)
		abort();
	size_t event = SIZE_MAX;
	if (request->command != BLOCK_READ &&
	    (request->offset > DISK_CAPACITY || request->bytes > DISK_CAPACITY - request->offset)) {
		block_finish_later(request, -ENOSPC);
		return;
	}
	if (request->command != BLOCK_READ) {
		event = disk_note(disk, request->command, request->offset, request->bytes);
		uint8_t *to = disk->events[event].data;
		for (unsigned i = 0; request->command == BLOCK_WRITE && i < request->iov_count; i++) {
			memcpy(to, request->iov[i].iov_base, request->iov[i].iov_len);
			to += request->iov[i].iov_len;
		}
	}
	disk->pending[disk->pending_count++] = (struct disk_pending){request, event};
	if (disk->pending_count == 1 && !disk->pump.pending) {
		disk->pump = (struct loop_op){.done = disk_pump};
		loop_defer(block->loop, &disk->pump, 0);
	}
}

static inline void disk_close(struct block *block)
{
	(void)block; /* the test's */
}

static inline int disk_pread(struct block *block, void *buf, size_t len, uint64_t offset, struct err *err)
{
	struct disk *disk = disk_of(block);
	if (offset > block->size_bytes || len > block->size_bytes - offset)
		return err_set(err, -EIO, "beyond the end of the disk");
	memcpy(buf, disk->data + offset, len);
	return 0;
}

static inline int disk_pwrite(struct block *block, const void *buf, size_t len, uint64_t offset)
{
	struct disk *disk = disk_of(block);
	if (offset > DISK_CAPACITY || len > DISK_CAPACITY - offset)
		return -ENOSPC;
	struct disk_event *event = &disk->events[disk_note(disk, BLOCK_WRITE, offset, len)];
	memcpy(event->data, buf, len);
	if (disk_fails(disk, BLOCK_WRITE))
		return disk->fail_with;
	disk_apply(disk, event, len);
	event->done = ++disk->clock;
	return 0;
}

static inline int disk_sync(struct block *block)
{
	struct disk *disk = disk_of(block);
	struct disk_event *event = &disk->events[disk_note(disk, BLOCK_FLUSH, 0, 0)];
	if (disk_fails(disk, BLOCK_FLUSH))
		return disk->fail_with;
	event->done = ++disk->clock;
	return 0;
}

static const struct qcow2_file_ops disk_file_ops = {
	.pread = disk_pread, .pwrite = disk_pwrite, .sync = disk_sync};

static const struct block_ops disk_ops = {.name = "disk", .submit = disk_submit, .close = disk_close};

static inline void disk_init(struct disk *disk, struct loop *loop, uint64_t seed)
{
	*disk = (struct disk){.block = {.ops = &disk_ops, .loop = loop, .extends = true},
			      .seed = seed * 88172645463325252U + 1,
			      .data = calloc(1, DISK_CAPACITY),
			      .fail_after = UINT64_MAX};
	if (!disk->data)
		abort();
}

/* What it holds now is what it starts from. */
static inline void disk_remember(struct disk *disk)
{
	disk->start_bytes = disk->block.size_bytes;
	disk->start = malloc(disk->start_bytes + 1);
	if (!disk->start)
		abort();
	memcpy(disk->start, disk->data, disk->start_bytes);
	disk->remembers = true;
}

static inline void disk_finish_all(struct disk *disk)
{
	for (size_t i = 0; i < disk->event_count; i++)
		free(disk->events[i].data);
	free(disk->events);
	free(disk->start);
	free(disk->data);
}

static inline void disk_load(struct disk *disk, const char *name)
{
	char path[512];
	(void)snprintf(path, sizeof(path), "%s/%s", test_folder(), name);
	FILE *file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	disk->block.size_bytes = fread(disk->data, 1, DISK_CAPACITY, file);
	ck_assert_int_eq(fclose(file), 0);
}

static inline void save_bytes(const char *name, const uint8_t *data, uint64_t bytes)
{
	char path[512];
	(void)snprintf(path, sizeof(path), "%s/%s", test_folder(), name);
	FILE *file = fopen(path, "we");
	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(data, 1, bytes, file), bytes);
	ck_assert_int_eq(fclose(file), 0);
}

/* ---- the end of the world ---- */

/* A sync that came after the change was done has itself been done. */
static inline bool is_durable(const struct disk *disk, const struct disk_event *event, uint64_t at)
{
	for (size_t i = 0; i < disk->event_count; i++) {
		const struct disk_event *sync = &disk->events[i];
		if (sync->command == BLOCK_FLUSH && sync->submitted > event->done && sync->done <= at)
			return true;
	}
	return false;
}

enum disk_end { DISK_KILLED, DISK_POWER_LOST };

/* Sector by sector: a change that is not durable may be there, or not, or in parts. */
static inline void replay(struct disk *disk, const struct disk_event *event, bool whole, uint8_t *to,
			  uint64_t *size)
{
	unsigned luck = (unsigned)random_below(&disk->seed, 4);
	for (uint64_t at = 0; at < event->bytes; at += SECTOR) {
		bool there = whole || luck == 0 || (luck == 1 && random_below(&disk->seed, 2));
		uint64_t n = event->bytes - at < SECTOR ? event->bytes - at : SECTOR;
		if (!there)
			continue;
		memcpy(to + event->offset + at, event->data + at, n);
		if (event->command != BLOCK_DISCARD && event->offset + at + n > *size)
			*size = event->offset + at + n;
	}
}

/* What is left, to a file. After a kill all that was done is there, and some of what was not. */
static inline void disk_save_end(struct disk *disk, enum disk_end end, uint64_t at, const char *name)
{
	uint8_t *data = calloc(1, DISK_CAPACITY);
	uint64_t size = disk->start_bytes;
	ck_assert_ptr_nonnull(data);
	memcpy(data, disk->start, disk->start_bytes);
	for (size_t i = 0; i < disk->event_count; i++) {
		const struct disk_event *event = &disk->events[i];
		if (event->submitted > at || event->command == BLOCK_FLUSH)
			continue;
		bool whole = end == DISK_KILLED ? event->done <= at : is_durable(disk, event, at);
		replay(disk, event, whole, data, &size);
	}
	save_bytes(name, data, size);
	free(data);
}

/* The same for a world that is cruel on purpose: of all that was not durable when event `only` was done, that
 * one alone is there. */
static inline void disk_save_only(const struct disk *disk, size_t only, const char *name)
{
	uint64_t size = disk->start_bytes, at = disk->events[only].done;
	uint8_t *data = calloc(1, DISK_CAPACITY);
	ck_assert_ptr_nonnull(data);
	memcpy(data, disk->start, disk->start_bytes);
	for (size_t i = 0; i < disk->event_count; i++) {
		const struct disk_event *event = &disk->events[i];
		if (event->command == BLOCK_FLUSH || !event->data /* it was there at the start */ ||
		    (i != only && !is_durable(disk, event, at)))
			continue;
		memcpy(data + event->offset, event->data, event->bytes);
		if (event->command != BLOCK_DISCARD && event->offset + event->bytes > size)
			size = event->offset + event->bytes;
	}
	save_bytes(name, data, size);
	free(data);
}

#endif
