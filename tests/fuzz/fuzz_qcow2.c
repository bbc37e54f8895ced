/*
 * qcow2: images made by an enemy, in memory.
 *
 * The input is a shape of a valid image, a list of places in its header and tables and what to put there, and
 * a list of requests. Entries are mostly made of a kind and a cluster, so that tables point into the image.
 *
 * Rules: every request ends, whatever the image says; reads and writes stay within the file and the memory
 * that is theirs (ASan); the header's cluster is never written as data, and the file does not grow by more
 * than the requests and their tables can need.
 */
#include "feed.h"
#include "fuzz.h"

#include "../../devices/backend/qcow2.h"
#include "base/cleanup.h"
#include "base/log.h"

#include <string.h>
#include <zstd.h>

enum { FILE_BYTES = 1 << 20, PATCHES_MAX = 64, REQUESTS_MAX = 64, AT_ONCE = 8, REQUEST_BYTES = 16384 };

/* ---- the file ---- */

struct memory {
	struct block block;
	uint8_t *data;
};

static struct memory *memory_of(struct block *block)
{
	return container_of(block, struct memory, block);
}

static int transfer(struct memory *memory, const struct block_request *request)
{
	uint64_t at = request->offset;
	for (unsigned i = 0; i < request->iov_count; i++) {
		uint8_t *data = request->iov[i].iov_base;
		uint64_t len = request->iov[i].iov_len;
		if (request->command == BLOCK_WRITE) {
			if (at > FILE_BYTES || len > FILE_BYTES - at)
				return -ENOSPC;
			memcpy(memory->data + at, data, len);
			if (at + len > memory->block.size_bytes)
				memory->block.size_bytes = at + len;
		} else {
			uint64_t there = at >= FILE_BYTES ? 0 : FILE_BYTES - at < len ? FILE_BYTES - at : len;
			memset(data, 0, len);
			if (there)
				memcpy(data, memory->data + at, there);
		}
		at += len;
	}
	return 0;
}

static void memory_submit(struct block *block, struct block_request *request)
{
	struct memory *memory = memory_of(block);
	uint64_t len = request->bytes;
	uint64_t at = request->offset;
	int res = 0;
	if (request->command == BLOCK_READ || request->command == BLOCK_WRITE)
		res = transfer(memory, request);
	else if (at < FILE_BYTES && len)
		memset(memory->data + at, 0, len < FILE_BYTES - at ? len : FILE_BYTES - at);
	block_finish_later(request, res);
}

static void memory_close(struct block *block)
{
	(void)block;
}

static int memory_pread(struct block *block, void *buf, size_t len, uint64_t offset, struct err *err)
{
	if (offset > block->size_bytes || len > block->size_bytes - offset)
		return err_set(err, -EIO, "beyond the end");
	memcpy(buf, memory_of(block)->data + offset, len);
	return 0;
}

static int memory_pwrite(struct block *block, const void *buf, size_t len, uint64_t offset)
{
	if (offset > FILE_BYTES || len > FILE_BYTES - offset)
		return -ENOSPC;
	memcpy(memory_of(block)->data + offset, buf, len);
	return 0;
}

static int memory_sync(struct block *block)
{
	(void)block;
	return 0;
}

static const struct qcow2_file_ops memory_file = {memory_pread, memory_pwrite, memory_sync};
static const struct block_ops memory_ops = {.name = "memory", .submit = memory_submit, .close = memory_close};

/* ---- the image: header, refcount table, one block, L1, one L2 table, some clusters ---- */

static void put32(uint8_t *data, size_t at, uint32_t value)
{
	value = htobe32(value);
	memcpy(data + at, &value, sizeof(value));
}

static void put64(uint8_t *data, size_t at, uint64_t value)
{
	value = htobe64(value);
	memcpy(data + at, &value, sizeof(value));
}

static void make_image(struct memory *memory, unsigned bits, uint32_t version, uint32_t order)
{
	uint64_t cluster = UINT64_C(1) << bits;
	uint8_t *data = memory->data;
	uint64_t l2_bytes = cluster * (cluster / 8);
	put32(data, 0, QCOW2_MAGIC);
	put32(data, 4, version);
	put32(data, 20, bits);
	put64(data, 24, 3 * l2_bytes < (1 << 22) ? 3 * l2_bytes : 1 << 22);
	put32(data, 36, 3);
	put64(data, 40, 3 * cluster);
	put64(data, 48, cluster);
	put32(data, 56, 1);
	put32(data, 96, order);
	put32(data, 100, 104);
	put64(data, cluster, 2 * cluster);
	for (size_t i = 0; i < 9; i++)
		qcow2_refcount_set(data + 2 * cluster, i, 1U << order, 1);
	put64(data, 3 * cluster, 4 * cluster | QCOW2_COPIED);
	for (size_t i = 0; i < 4; i++)
		put64(data, 4 * cluster + 8 * i, (5 + i) * cluster | QCOW2_COPIED);
	memory->block.size_bytes = 9 * cluster;
}

/* The last cluster is a frame of zstd, and the guest's first is packed in it. */
static void make_packed(struct memory *memory, unsigned bits)
{
	uint64_t cluster = UINT64_C(1) << bits;
	uint8_t *data = memory->data;
	uint8_t plain[4096];
	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (uint8_t)(i * i >> 9);
	put64(data, 72, QCOW2_COMPRESSION_TYPE);
	put32(data, 100, 112);
	data[104] = QCOW2_BY_ZSTD;
	size_t packed = ZSTD_compress(data + 8 * cluster, cluster, plain, cluster, 3);
	FUZZ_CHECK(!ZSTD_isError(packed));
	put64(data, 4 * cluster, QCOW2_COMPRESSED | packed / 512 << (62 - (bits - 8)) | 8 * cluster);
}

/* An entry of some kind that points to a low cluster, or anything. */
static uint64_t take_entry(struct feed *feed, unsigned bits)
{
	uint64_t kind = take64(feed, 1);
	uint64_t offset = take64(feed, 1) << bits;
	switch (kind % 8) {
	case 0:
		return offset;
	case 1:
	case 2:
		return offset | QCOW2_COPIED;
	case 3:
		return offset | QCOW2_COPIED | QCOW2_ZERO;
	case 4:
		return QCOW2_ZERO;
	case 5:
		return QCOW2_COMPRESSED | (offset + take64(feed, 1)) | take64(feed, 1) << (62 - (bits - 8));
	case 6:
		return 0;
	default:
		return take64(feed, 8);
	}
}

static void patch(struct memory *memory, struct feed *feed, unsigned bits)
{
	unsigned count = (unsigned)take64(feed, 1) % PATCHES_MAX;
	for (unsigned i = 0; i < count && feed->size; i++) {
		uint64_t where = take64(feed, 1);
		uint64_t index = take64(feed, 1);
		if (where % 8 == 0) /* header */
			memory->data[index % 112] = (uint8_t)take64(feed, 1);
		else if (where % 8 == 1) /* anything */
			memory->data[(where / 8 << bits) + index] = (uint8_t)take64(feed, 1);
		else /* refcount table, block, L1, L2 */
			put64(memory->data, ((1 + where % 4) << bits) + index % 64 * 8,
			      take_entry(feed, bits));
	}
}

/* ---- requests ---- */

struct player {
	struct feed *feed;
	struct loop *loop;
	struct block *block;
	unsigned left, flying;
	struct play {
		struct block_request request;
		struct player *player;
		struct iovec iov;
		uint8_t *data;
		bool busy;
	} plays[AT_ONCE];
};

static void play(struct player *player);

static void played(struct block_request *request, int res)
{
	struct play *p = container_of(request, struct play, request);
	(void)res;
	p->busy = false;
	p->player->flying--;
	play(p->player);
}

static void play(struct player *player)
{
	for (int i = 0; i < AT_ONCE; i++) {
		struct play *p = &player->plays[i];
		if (p->busy || !player->left || !player->feed->size)
			continue;
		player->left--;
		static const enum block_command commands[] = {BLOCK_READ,  BLOCK_WRITE,	  BLOCK_WRITE,
							      BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES};
		uint64_t choice = take64(player->feed, 1);
		enum block_command command = commands[choice % ARRAY_LEN(commands)];
		uint64_t bytes = (take64(player->feed, 1) % (REQUEST_BYTES / 512) + 1) * 512;
		p->player = player;
		p->busy = true;
		p->iov = (struct iovec){p->data, bytes};
		bool data = command == BLOCK_READ || command == BLOCK_WRITE;
		p->request = (struct block_request){.command = command,
						    .unmap = choice & 0x40,
						    .fua = choice & 0x80,
						    .offset = take64(player->feed, 2) * 512 % (1 << 22),
						    .bytes = command == BLOCK_FLUSH ? 0 : bytes,
						    .iov = data ? &p->iov : NULL,
						    .iov_count = data ? 1 : 0,
						    .done = played};
		player->flying++;
		block_submit(player->block, &p->request);
	}
	if (!player->flying)
		loop_quit(player->loop);
}

static void run(struct loop *loop, struct block *block, struct feed *feed)
{
	struct player player = {.feed = feed, .loop = loop, .block = block, .left = REQUESTS_MAX};
	for (int i = 0; i < AT_ONCE; i++) {
		player.plays[i].data = malloc(REQUEST_BYTES);
		FUZZ_CHECK(player.plays[i].data);
		memset(player.plays[i].data, 0xd5, REQUEST_BYTES);
	}
	play(&player);
	if (player.flying)
		FUZZ_CHECK(loop_run(loop) == 0);
	FUZZ_CHECK(player.flying == 0);
	for (int i = 0; i < AT_ONCE; i++)
		free(player.plays[i].data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct feed feed = {data, size};
	struct err err = ERR_INIT;
	struct loop *loop = NULL;
	log_set_level(LOG_ERROR);
	FUZZ_CHECK(loop_create(16, &loop, &err) == 0);
	struct memory memory = {.block = {.ops = &memory_ops, .loop = loop, .extends = true},
				.data = calloc(1, FILE_BYTES)};
	struct memory below = {.block = {.ops = &memory_ops, .loop = loop, .size_bytes = 300000},
			       .data = calloc(1, FILE_BYTES)};
	FUZZ_CHECK(memory.data && below.data);
	uint64_t shape = take64(&feed, 1);
	unsigned bits = shape & 1 ? 12 : 9;
	make_image(&memory, bits, shape & 2 ? 2 : 3, shape & 2 ? 4 : (uint32_t)(take64(&feed, 1) % 7));
	if (shape & 64 && !(shape & 2))
		make_packed(&memory, bits);
	patch(&memory, &feed, bits);
	const struct qcow2_options options = {
		.path = "x", .read_only = shape & 4, .discard = shape & 8, .writethrough = shape & 16};
	struct qcow2_header header;
	struct block *block = NULL;
	if (qcow2_read_header(&memory.block, &memory_file, &options, &header, &err) == 0 &&
	    qcow2_attach(&memory.block, &memory_file, shape & 32 ? &below.block : NULL, &header, &options,
			 loop, &block, &err) == 0) {
		uint8_t magic[8];
		memcpy(magic, memory.data, sizeof(magic));
		run(loop, block, &feed);
		block_close(block);
		FUZZ_CHECK(memcmp(magic, memory.data, sizeof(magic)) == 0);
	}
	free(memory.data);
	free(below.data);
	loop_destroy(loop);
	return 0;
}
