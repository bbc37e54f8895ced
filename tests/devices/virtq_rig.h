/* A queue and its driver on RAM of their own, for the virtqueue's tests. */
#ifndef AERIE_TESTS_DEVICES_VIRTQ_RIG_H
#define AERIE_TESTS_DEVICES_VIRTQ_RIG_H

#include "base/cleanup.h"
#include "base/layout.h"
#include "harness.h"
#include "ring.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { RIG_IOVS = 1024 };

#define RIG_RING_GPA (1 * MIB)
#define RIG_DATA_GPA (8 * MIB)
#define RIG_RAM	     (16 * MIB)

struct rig {
	struct guest_memory *memory;
	struct ring ring;
	struct virtq vq;
	struct virtq_chain chain;
	struct iovec iov[RIG_IOVS];
	char name[64]; /* of the set-up, for messages */
};

static inline void rig_init_at(struct rig *rig, const struct virtq_setup *setup, uint16_t index, bool wrap)
{
	static const struct memory_config config = {.size_bytes = RIG_RAM};
	const struct virtq_position at = {index, index, setup->packed && wrap, setup->packed && wrap};
	struct err err = ERR_INIT;
	memset(rig, 0, sizeof(*rig));
	(void)snprintf(rig->name, sizeof(rig->name), "%s %u%s%s%s", setup->packed ? "packed" : "split",
		       setup->size, setup->indirect ? " indirect" : "", setup->event_idx ? " event_idx" : "",
		       setup->in_order ? " in_order" : "");
	ck_assert_int_eq(guest_memory_create(&config, &rig->memory, &err), 0);
	ck_assert_int_eq(ring_init(&rig->ring, rig->memory, setup, RIG_RING_GPA), 0);
	if (index || !wrap)
		ring_start_at(&rig->ring, index, wrap);
	ck_assert_int_eq(virtq_init(&rig->vq, rig->memory, &rig->ring.setup, index || !wrap ? &at : NULL), 0);
	rig->vq.signalled_valid = true; /* as if what came before had been told */
	rig->chain = (struct virtq_chain){.iov = rig->iov, .iov_max = RIG_IOVS};
}

static inline void rig_init(struct rig *rig, const struct virtq_setup *setup)
{
	rig_init_at(rig, setup, 0, true);
}

static inline void rig_finish(struct rig *rig)
{
	guest_memory_destroy(rig->memory);
}

/* A chain of `reads` and then `writes` buffers of `len` bytes, published. Returns its id. */
static inline int rig_add(struct rig *rig, unsigned reads, unsigned writes, uint32_t len, bool indirect)
{
	struct ring_buffer buffers[VIRTQ_SIZE_MAX];
	for (unsigned i = 0; i < reads + writes; i++)
		buffers[i] = (struct ring_buffer){RIG_DATA_GPA + (uint64_t)i * len, len, i >= reads};
	int id = ring_add(&rig->ring, buffers, reads + writes, indirect);
	if (id >= 0)
		ring_publish(&rig->ring);
	return id;
}

static inline int rig_pop(struct rig *rig)
{
	return virtq_pop(&rig->vq, &rig->chain);
}

/* Runs `test` over every combination of features and sizes. */
static inline void rig_matrix(void (*test)(struct rig *rig))
{
	static const uint16_t sizes[] = {1, 2, 3, 4, 256, 1024};
	static struct rig rig;
	for (unsigned features = 0; features < 16; features++) {
		for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
			struct virtq_setup setup = {.size = sizes[i],
						    .packed = features & 1,
						    .indirect = features & 2,
						    .event_idx = features & 4,
						    .in_order = features & 8};
			if (sizes[i] == 3 && !setup.packed)
				continue;
			rig_init(&rig, &setup);
			test(&rig);
			rig_finish(&rig);
		}
	}
}

#endif
