/* Virtqueues with a driver that breaks the rules: each costs -EPROTO for good, and nothing else. */
#include "virtq_rig.h"

#include <pthread.h>

static struct rig rig;

static void begin(bool packed, bool indirect)
{
	rig_init(&rig, &(struct virtq_setup){.size = 4, .packed = packed, .indirect = indirect});
}

/* Broken now, and for ever, and silent towards the driver. */
static void expect_broken(void)
{
	struct ring_used used;
	ck_assert_int_eq(rig_pop(&rig), -EPROTO);
	ck_assert(rig.vq.broken);
	ck_assert_ptr_nonnull(rig.vq.why);
	ck_assert_int_eq(rig_pop(&rig), -EPROTO);
	ck_assert(!virtq_has_request(&rig.vq));
	ck_assert(!virtq_enable_doorbell(&rig.vq));
	ck_assert(!virtq_should_interrupt(&rig.vq));
	ck_assert_int_le(ring_collect(&rig.ring, &used), 0);
}

static void end_broken(const char *why)
{
	expect_broken();
	ck_assert_str_eq(rig.vq.why, why);
	rig_finish(&rig);
}

/* ---- the split ring ---- */

static void end_with_next(uint16_t next, const char *why)
{
	begin(false, false);
	rig_add(&rig, 2, 1, 8, false);
	rig.ring.desc[2].split.flags |= RING_NEXT;
	rig.ring.desc[2].split.next = next;
	end_broken(why);
}

START_TEST(split_loops_and_wild_next)
{
	for (uint16_t next = 0; next < 2; next++)
		end_with_next(next, "a device-readable buffer after a device-writable one");
	end_with_next(2, "a loop in a chain"); /* itself: write-only for ever */
	end_with_next(4, "a next descriptor beyond the table");
	end_with_next(0xffff, "a next descriptor beyond the table");
	begin(false, false);
	rig_add(&rig, 4, 0, 8, false);
	rig.ring.desc[3].split.flags |= RING_NEXT;
	end_broken("a loop in a chain");
	begin(false, false);
	rig_add(&rig, 4, 0, 0, false); /* without buffers there is no limit but the queue's size */
	rig.ring.desc[3].split.flags |= RING_NEXT;
	end_broken("a loop in a chain");
}
END_TEST

START_TEST(split_index_jumps)
{
	for (unsigned ahead = 1; ahead < 0x10000; ahead += ahead < 16 ? 1 : 1021) {
		begin(false, false);
		for (uint16_t i = 0; i < 4; i++) { /* four good heads, so that only the index can be wrong */
			rig.ring.desc[i] = (struct ring_desc){.addr = RIG_DATA_GPA, .len = 1};
			rig.ring.avail->ring[i] = i;
		}
		rig.ring.avail->idx = (uint16_t)ahead;
		if (ahead <= 4) {
			ck_assert_int_eq(rig_pop(&rig), 1);
			rig_finish(&rig);
		} else {
			ck_assert(virtq_has_request(&rig.vq)); /* pop will tell */
			end_broken("an available index more than the queue size ahead");
		}
	}
}
END_TEST

START_TEST(split_wild_and_double_heads)
{
	begin(false, false);
	rig_add(&rig, 1, 0, 8, false);
	rig.ring.avail->ring[0] = 4;
	end_broken("a head beyond the descriptor table");

	begin(false, false);
	rig_add(&rig, 1, 0, 8, false);
	rig_add(&rig, 1, 0, 8, false);
	rig.ring.avail->ring[1] = rig.ring.avail->ring[0];
	ck_assert_int_eq(rig_pop(&rig), 1);
	struct virtq_chain first = rig.chain;
	expect_broken();
	ck_assert_str_eq(rig.vq.why, "a head that the device has already");
	/* What is in flight ends without a trace. */
	ck_assert_uint_eq(rig.vq.in_flight, 1);
	ck_assert_int_eq(virtq_push(&rig.vq, &first, 0), -EPROTO);
	ck_assert_uint_eq(rig.vq.in_flight, 0);
	ck_assert_uint_eq(rig.ring.used->idx, 0);
	/* A reset makes it good again. */
	ck_assert_int_eq(ring_init(&rig.ring, rig.memory, &rig.ring.setup, RIG_RING_GPA), 0);
	ck_assert_int_eq(virtq_init(&rig.vq, rig.memory, &rig.ring.setup, NULL), 0);
	rig_add(&rig, 1, 0, 8, false);
	ck_assert_int_eq(rig_pop(&rig), 1);
	rig_finish(&rig);
}
END_TEST

/* ---- buffers, both layouts ---- */

static void expect_buffers(const struct ring_buffer *buffers, size_t count, const char *why)
{
	for (int mode = 0; mode < 4; mode++) {
		begin(mode & 1, mode & 2);
		ring_add(&rig.ring, buffers, count, mode & 2);
		ring_publish(&rig.ring);
		if (why) {
			end_broken(why);
		} else {
			ck_assert_int_eq(rig_pop(&rig), 1);
			rig_finish(&rig);
		}
	}
}

START_TEST(buffers_are_wholly_ram)
{
	const struct ring_buffer bad[] = {
		{RIG_RAM, 1, false},
		{RIG_RAM - 1, 2, true},
		{UINT64_MAX, 1, false},
		{UINT64_MAX, 2, false},
		{UINT64_MAX - 0xfff, 0x2000, true},
		{0, UINT32_MAX, true},
		{RIG_DATA_GPA, UINT32_MAX, false},
		{UINT64_C(1) << 63, 8, true},
		{LAYOUT_HIGH_RAM_GPA, 8, true},
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		expect_buffers(&bad[i], 1, "a buffer outside RAM");
		const struct ring_buffer second[] = {{RIG_DATA_GPA, 1, false}, bad[i]};
		expect_buffers(second, 2, "a buffer outside RAM");
	}
	expect_buffers((const struct ring_buffer[]){{RIG_RAM - 1, 1, true}}, 1, NULL);
	expect_buffers((const struct ring_buffer[]){{0, (uint32_t)RIG_RAM, true}}, 1, NULL);
}
END_TEST

START_TEST(readable_buffers_come_first)
{
	expect_buffers((const struct ring_buffer[]){{RIG_DATA_GPA, 8, true}, {RIG_DATA_GPA, 8, false}}, 2,
		       "a device-readable buffer after a device-writable one");
}
END_TEST

START_TEST(more_buffers_than_the_device_takes)
{
	for (int mode = 0; mode < 4; mode++) {
		begin(mode & 1, mode & 2);
		rig.chain.iov_max = 2;
		rig_add(&rig, 1, 2, 8, mode & 2);
		rig.iov[2].iov_base = NULL;
		expect_broken();
		ck_assert_str_eq(rig.vq.why, "a chain of more buffers than the device takes");
		ck_assert_ptr_null(rig.iov[2].iov_base);
		rig_finish(&rig);
	}
}
END_TEST

/* 2.7.5.2: 2^32 bytes in total and no byte more. */
START_TEST(chains_end_at_4_gib)
{
	static const struct memory_config config = {.size_bytes = 3 * GIB};
	struct err err = ERR_INIT;
	for (int mode = 0; mode < 8; mode++) {
		begin(mode & 1, mode & 2);
		guest_memory_destroy(rig.memory);
		ck_assert_int_eq(guest_memory_create(&config, &rig.memory, &err), 0);
		ck_assert_int_eq(ring_init(&rig.ring, rig.memory, &rig.ring.setup, RIG_RING_GPA), 0);
		ck_assert_int_eq(virtq_init(&rig.vq, rig.memory, &rig.ring.setup, NULL), 0);
		const struct ring_buffer buffers[] = {
			{0, 1U << 31, false}, {GIB, 1U << 31, true}, {GIB, 1, true}};
		ring_add(&rig.ring, buffers, mode & 4 ? 3 : 2, mode & 2);
		ring_publish(&rig.ring);
		if (mode & 4) {
			end_broken("a chain of more than 2^32 bytes");
			continue;
		}
		ck_assert_int_eq(rig_pop(&rig), 1);
		ck_assert_uint_eq(rig.chain.read_bytes + rig.chain.write_bytes, UINT64_C(1) << 32);
		rig_finish(&rig);
	}
}
END_TEST

/* ---- indirect tables ---- */

static struct ring_desc *with_table(bool packed)
{
	begin(packed, true);
	rig_add(&rig, 2, 1, 8, true);
	return &rig.ring.desc[0];
}

START_TEST(tables_are_wholly_ram_and_whole_descriptors)
{
	for (int packed = 0; packed < 2; packed++) {
		static const uint32_t lens[] = {0, 1, 15, 17, 47, UINT32_MAX};
		for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
			with_table(packed)->len = lens[i];
			end_broken("an indirect table whose length is not that of descriptors");
		}
		with_table(packed)->addr = RIG_RAM - 16;
		end_broken("an indirect table outside RAM");
		with_table(packed)->len = UINT32_MAX - 15;
		end_broken("an indirect table outside RAM");
		with_table(packed)->addr = UINT64_MAX - 15;
		end_broken("an indirect table outside RAM");
		(void)with_table(packed);
		rig.vq.setup.indirect = false;
		end_broken("an indirect descriptor without VIRTIO_F_INDIRECT_DESC");
	}
}
END_TEST

START_TEST(split_tables_neither_nest_nor_loop)
{
	struct ring_desc *desc = with_table(false);
	desc->split.flags |= RING_NEXT;
	end_broken("an indirect descriptor with a next one");
	(void)with_table(false);
	rig.ring.tables[1].split.flags |= RING_INDIRECT;
	end_broken("an indirect descriptor in an indirect table");
	(void)with_table(false);
	rig.chain.iov_max = 3; /* the loop is seen before it runs out of room */
	rig.ring.tables[1].split.next = 0;
	end_broken("a loop in an indirect table, or one too long");
	(void)with_table(false);
	rig.ring.tables[1].split.next = 3;
	end_broken("a next descriptor beyond the indirect table");
	/* A table may be larger than the chain in it, but the chain ends. */
	desc = with_table(false);
	desc->len = 16 * 1025;
	ck_assert_int_eq(rig_pop(&rig), 1);
	rig_finish(&rig);
	desc = with_table(false);
	desc->addr = RIG_DATA_GPA;
	desc->len = 16 * 1025;
	for (uint32_t i = 0; i < 1025; i++) {
		struct ring_desc next = {.split = {i < 1024 ? RING_NEXT : 0, (uint16_t)(i + 1)}};
		ck_assert_int_eq(guest_memory_write(rig.memory, RIG_DATA_GPA + 16ULL * i, &next, 16), 0);
	}
	end_broken("a loop in an indirect table, or one too long");
}
END_TEST

START_TEST(packed_tables_stand_alone_and_are_bounded)
{
	with_table(true)->packed.flags |= RING_NEXT;
	end_broken("an indirect descriptor in a list of direct ones");
	begin(true, true);
	rig_add(&rig, 2, 0, 64, false);
	rig.ring.desc[1].packed.flags |= RING_INDIRECT;
	end_broken("an indirect descriptor in a list of direct ones");
	struct ring_desc *desc = with_table(true);
	desc->addr = RIG_DATA_GPA; /* all zero: no buffers */
	desc->len = 16 * 1024;
	ck_assert_int_eq(rig_pop(&rig), 1);
	rig_finish(&rig);
	desc = with_table(true);
	desc->addr = RIG_DATA_GPA;
	desc->len = 16 * 1025;
	end_broken("an indirect table too long");
}
END_TEST

/* ---- the packed ring ---- */

START_TEST(packed_chains_do_not_go_around)
{
	begin(true, false);
	rig_add(&rig, 4, 0, 8, false);
	rig.ring.desc[3].packed.flags |= RING_NEXT;
	end_broken("more descriptors available than the ring has");

	/* Available again while the device has them all. */
	begin(true, false);
	rig_add(&rig, 2, 0, 8, false);
	rig_add(&rig, 2, 0, 8, false);
	ck_assert_int_eq(rig_pop(&rig), 1);
	ck_assert_int_eq(rig_pop(&rig), 1);
	ck_assert_int_eq(rig_pop(&rig), 0);
	rig.ring.desc[0].packed.flags = RING_USED;
	rig.ring.desc[0].packed.id = 3;
	end_broken("more descriptors available than the ring has");

	/* One slot is free, the chain has two. */
	begin(true, false);
	rig_add(&rig, 3, 0, 8, false);
	rig_add(&rig, 1, 0, 8, false);
	ck_assert_int_eq(rig_pop(&rig), 1);
	rig.ring.desc[3].packed.flags |= RING_NEXT;
	end_broken("more descriptors available than the ring has");
}
END_TEST

START_TEST(packed_wild_and_double_ids)
{
	begin(true, false);
	rig_add(&rig, 2, 0, 8, false);
	rig.ring.desc[0].packed.id = 0xffff; /* only the last one's counts */
	ck_assert_int_eq(rig_pop(&rig), 1);
	rig_add(&rig, 1, 0, 8, false);
	rig.ring.desc[2].packed.id = 4;
	end_broken("a buffer id beyond the queue size");

	begin(true, false);
	rig_add(&rig, 1, 0, 8, false);
	rig_add(&rig, 1, 0, 8, false);
	rig.ring.desc[1].packed.id = 0;
	ck_assert_int_eq(rig_pop(&rig), 1);
	end_broken("a buffer id that the device has already");
}
END_TEST

/* Flags that are no pair of AVAIL and USED for this round are just not available. */
START_TEST(packed_flags_of_another_round_are_nothing)
{
	static const uint16_t flags[] = {0, RING_USED, RING_AVAIL | RING_USED, RING_NEXT | RING_WRITE};
	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		begin(true, false);
		rig.ring.desc[0].packed.flags = flags[i];
		ck_assert(!virtq_has_request(&rig.vq));
		ck_assert_int_eq(rig_pop(&rig), 0);
		ck_assert(!rig.vq.broken);
		rig_finish(&rig);
	}
}
END_TEST

/* Areas on top of each other: what we write is what we read next, and memory beyond stays as it was. */
START_TEST(overlapping_areas_hurt_nobody_else)
{
	for (unsigned shift = 0; shift < 128; shift += 4) {
		for (int packed = 0; packed < 2; packed++) {
			begin(packed, true);
			struct virtq_setup setup = rig.ring.setup;
			setup.driver_gpa = setup.desc_gpa + shift / 2 * 2;
			setup.device_gpa = setup.desc_gpa + (packed ? shift % 64 : 2 * shift % 128);
			ck_assert_int_eq(virtq_init(&rig.vq, rig.memory, &setup, NULL), 0);
			rig_add(&rig, 1, 2, 8, false);
			for (unsigned i = 0; i < 64; i++) {
				if (rig_pop(&rig) == 1)
					(void)virtq_push(&rig.vq, &rig.chain, 0);
				(void)virtq_should_interrupt(&rig.vq);
				(void)virtq_enable_doorbell(&rig.vq);
			}
			static const uint8_t zeros[4096];
			uint64_t end = RIG_RING_GPA + ring_bytes(&rig.ring.setup);
			ck_assert_mem_eq(guest_memory_at(rig.memory, end, 4096), zeros, 4096);
			rig_finish(&rig);
		}
	}
}
END_TEST

/* ---- while we look ---- */

struct mutator {
	_Atomic bool stop;
	uint64_t random;
};

static uint32_t next_random(struct mutator *mutator)
{
	mutator->random = mutator->random * UINT64_C(6364136223846793005) + 1;
	return (uint32_t)(mutator->random >> 33);
}

/* Another CPU of the guest that changes descriptors, entries and tables; it keeps most chains whole. */
static void *mutator_thread(void *arg)
{
	struct mutator *mutator = arg;
	static const uint64_t addrs[] = {RIG_DATA_GPA, RIG_RAM - 8, RIG_RAM, UINT64_MAX};
	while (!mutator->stop) {
		uint32_t random = next_random(mutator);
		struct ring_desc *desc =
			random & 1 ? &rig.ring.tables[random / 16 % 8] : &rig.ring.desc[random / 16 % 4];
		switch (random / 2 % 4) {
		case 0:
			__atomic_store_n(&desc->addr, addrs[random / 1024 % 4], __ATOMIC_RELAXED);
			break;
		case 1:
			__atomic_store_n(&desc->len, random / 1024 % 64, __ATOMIC_RELAXED);
			break;
		case 2:
			__atomic_store_n(&desc->split.next, (uint16_t)(random / 1024 % 6), __ATOMIC_RELAXED);
			break;
		default:
			__atomic_store_n(&desc->split.flags, (uint16_t)(random / 1024 % 8), __ATOMIC_RELAXED);
			break;
		}
	}
	return NULL;
}

/* Pops again and again what changes all the time: whatever comes, every buffer is RAM and the sums are right.
 */
START_TEST(descriptors_that_change_while_they_are_read)
{
	static struct mutator mutator;
	unsigned results[2] = {0};
	for (int packed = 0; packed < 2; packed++) {
		pthread_t thread;
		mutator = (struct mutator){.random = 1};
		begin(packed, true);
		const uint8_t *ram = guest_memory_at(rig.memory, 0, RIG_RAM);
		ck_assert_int_eq(pthread_create(&thread, NULL, mutator_thread, &mutator), 0);
		for (unsigned i = 0; i < 100000; i++) {
			uint64_t bytes = 0;
			ck_assert_int_eq(virtq_init(&rig.vq, rig.memory, &rig.ring.setup, NULL), 0);
			if (packed) /* whatever else it is, available */
				__atomic_store_n(&rig.ring.desc[0].packed.flags, RING_AVAIL | i % 8,
						 __ATOMIC_RELAXED);
			else
				__atomic_store_n(&rig.ring.avail->idx, 1, __ATOMIC_RELAXED);
			int r = rig_pop(&rig);
			ck_assert(r == 1 || r == -EPROTO || (packed && r == 0));
			results[r == 1]++;
			for (unsigned j = 0; r == 1 && j < rig.chain.read_count + rig.chain.write_count;
			     j++) {
				uint64_t offset = (uint64_t)((uint8_t *)rig.iov[j].iov_base - ram);
				ck_assert(offset < RIG_RAM && rig.iov[j].iov_len <= RIG_RAM - offset);
				bytes += rig.iov[j].iov_len;
			}
			ck_assert(r != 1 || bytes == rig.chain.read_bytes + rig.chain.write_bytes);
		}
		mutator.stop = true;
		ck_assert_int_eq(pthread_join(thread, NULL), 0);
		rig_finish(&rig);
	}
	ck_assert_uint_gt(results[0], 0);
	ck_assert_uint_gt(results[1], 0);
}
END_TEST

/* ThreadSanitizer would rightly report the race that this test is about. */
#if defined(__SANITIZE_THREAD__)
#define RACES 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RACES 0
#endif
#endif
#ifndef RACES
#define RACES 1
#endif

int main(void)
{
	const TTest *const tests[] = {
		split_loops_and_wild_next,
		split_index_jumps,
		split_wild_and_double_heads,
		buffers_are_wholly_ram,
		readable_buffers_come_first,
		more_buffers_than_the_device_takes,
		chains_end_at_4_gib,
		tables_are_wholly_ram_and_whole_descriptors,
		split_tables_neither_nest_nor_loop,
		packed_tables_stand_alone_and_are_bounded,
		packed_chains_do_not_go_around,
		packed_wild_and_double_ids,
		packed_flags_of_another_round_are_nothing,
		overlapping_areas_hurt_nobody_else,
		descriptors_that_change_while_they_are_read, /* the last: see RACES */
	};
	return harness_run("virtq_hostile", tests, ARRAY_LEN(tests) - !RACES);
}
