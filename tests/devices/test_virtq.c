/* Virtqueues with a driver that keeps the rules: VIRTIO 1.3, 2.7 and 2.8. */
#include "virtq_rig.h"

/* ---- set-up ---- */

START_TEST(init_refuses_what_2_7_and_2_8_forbid)
{
	static struct rig rig;
	rig_init(&rig, &(struct virtq_setup){.size = 4});
	const struct virtq_setup good = rig.ring.setup;
	struct virtq_setup packed = good;
	packed.packed = true;
	static struct virtq vq;
	static const struct virtq zero;
#define REFUSED(from, change)                                                                                \
	do {                                                                                                 \
		struct virtq_setup setup = from;                                                             \
		setup.change;                                                                                \
		ck_assert_int_eq(virtq_init(&vq, rig.memory, &setup, NULL), -EINVAL);                        \
		ck_assert_mem_eq(&vq, &zero, sizeof(vq));                                                    \
	} while (0)
	REFUSED(good, size = 0);
	REFUSED(good, size = 3);
	REFUSED(good, size = 2048);
	REFUSED(good, desc_gpa += 8);
	REFUSED(good, driver_gpa += 1);
	REFUSED(good, device_gpa += 2);
	REFUSED(good, desc_gpa = RIG_RAM - 48);
	REFUSED(good, driver_gpa = RIG_RAM - 12);
	REFUSED(good, device_gpa = RIG_RAM - 36);
	REFUSED(good, desc_gpa = UINT64_MAX - 15);
	REFUSED(packed, size = 0);
	REFUSED(packed, size = 1025);
	REFUSED(packed, desc_gpa += 8);
	REFUSED(packed, driver_gpa += 2);
	REFUSED(packed, device_gpa += 2);
	REFUSED(packed, driver_gpa = RIG_RAM);
	REFUSED(packed, device_gpa = RIG_RAM);
	REFUSED(packed, desc_gpa = RIG_RAM - 48);
#undef REFUSED
	packed.size = 3;
	ck_assert_int_eq(virtq_init(&vq, rig.memory, &packed, NULL), 0);
	/* Exactly to the end of RAM. */
	struct virtq_setup end = good;
	end.device_gpa = RIG_RAM - (6 + 8 * 4) - 2;
	ck_assert_int_eq(virtq_init(&vq, rig.memory, &end, NULL), 0);
	rig_finish(&rig);
}
END_TEST

START_TEST(init_takes_only_positions_with_nothing_in_flight)
{
	static struct rig rig;
	rig_init(&rig, &(struct virtq_setup){.size = 4, .packed = true});
	struct virtq_setup split = rig.ring.setup;
	split.packed = false;
	const struct {
		struct virtq_position at;
		bool packed;
		int result;
	} cases[] = {
		{{.next_avail = 0xffff, .next_used = 0xffff}, false, 0},
		{{.next_avail = 1, .next_used = 0}, false, -EINVAL},
		{{.next_avail = 3, .next_used = 3}, true, 0},
		{{.next_avail = 3, .next_used = 3, .avail_wrap = true, .used_wrap = true}, true, 0},
		{{.next_avail = 3, .next_used = 3, .avail_wrap = true}, true, -EINVAL},
		{{.next_avail = 4, .next_used = 4}, true, -EINVAL},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		ck_assert_int_eq(virtq_init(&rig.vq, rig.memory, cases[i].packed ? &rig.ring.setup : &split,
					    &cases[i].at),
				 cases[i].result);
	rig_finish(&rig);
}
END_TEST

/* ---- traffic ---- */

/* Three rounds of the ring, always as full as it can be, pushed in another order than popped. */
static void fill_and_drain(struct rig *rig)
{
	static struct virtq_chain chains[VIRTQ_SIZE_MAX];
	uint16_t size = rig->vq.setup.size;
	for (unsigned round = 0; round < 7; round++) {
		unsigned reads = size > 1 ? round % 2 : 0;
		int popped = 0, collected = 0;
		struct ring_used used;
		ck_assert_int_eq(rig_pop(rig), 0);
		while (rig_add(rig, reads, 1, 16, false) >= 0)
			continue;
		ck_assert_msg(virtq_has_request(&rig->vq), "%s", rig->name);
		while (rig_pop(rig) == 1) {
			ck_assert_uint_eq(rig->chain.read_count, reads);
			ck_assert_uint_eq(rig->chain.write_count, 1);
			ck_assert_uint_eq(rig->chain.write_bytes, 16);
			chains[popped++] = rig->chain;
		}
		ck_assert_msg(popped == size / (int)(1 + reads), "%s: %d", rig->name, popped);
		ck_assert_uint_eq(rig->vq.in_flight, (unsigned)popped);
		for (int i = 0; i < popped; i++) {
			const struct virtq_chain *chain = &chains[(i + popped / 2) % popped];
			ck_assert_int_eq(virtq_push(&rig->vq, chain, (uint32_t)(chain->head % 17)), 0);
		}
		for (; ring_collect(&rig->ring, &used) == 1; collected++)
			ck_assert_uint_eq(used.len, used.id % 17U);
		ck_assert_msg(collected == popped, "%s: %d of %d", rig->name, collected, popped);
		ck_assert_uint_eq(rig->vq.in_flight, 0);
		ck_assert(!rig->vq.broken);
	}
}

START_TEST(every_set_up_fills_and_drains)
{
	rig_matrix(fill_and_drain);
}
END_TEST

/* As many descriptors as the queue has, in one chain, several times around. */
static void longest_chains(struct rig *rig)
{
	uint16_t size = rig->vq.setup.size;
	struct ring_used used;
	for (unsigned round = 0; round < 5; round++) {
		unsigned reads = round % (size + 1U);
		ck_assert_msg(rig_add(rig, reads, size - reads, 8, false) >= 0, "%s", rig->name);
		ck_assert_int_eq(rig_pop(rig), 1);
		ck_assert_uint_eq(rig->chain.desc_count, size);
		ck_assert_uint_eq(rig->chain.read_count, reads);
		ck_assert_uint_eq(rig->chain.write_count, size - reads);
		ck_assert_uint_eq(rig->chain.read_bytes, reads * 8U);
		for (unsigned i = 0; i < size; i++)
			ck_assert_ptr_eq(rig->iov[i].iov_base,
					 guest_memory_at(rig->memory, RIG_DATA_GPA + i * 8ULL, 8));
		ck_assert_int_eq(virtq_push(&rig->vq, &rig->chain, 0), 0);
		ck_assert_int_eq(ring_collect(&rig->ring, &used), 1);
	}
}

START_TEST(a_chain_may_be_as_long_as_the_queue)
{
	rig_matrix(longest_chains);
}
END_TEST

static void indirect_chains(struct rig *rig)
{
	if (!rig->vq.setup.indirect)
		return;
	struct ring_used used;
	for (unsigned count = 1; count <= RING_TABLE_MAX; count += 9) {
		ck_assert_int_ge(rig_add(rig, count / 2, count - count / 2, 32, true), 0);
		ck_assert_int_eq(rig_pop(rig), 1);
		ck_assert_uint_eq(rig->chain.desc_count, 1);
		ck_assert_uint_eq(rig->chain.read_bytes, count / 2 * 32);
		ck_assert_uint_eq(rig->chain.write_count, count - count / 2);
		ck_assert_int_eq(virtq_push(&rig->vq, &rig->chain, 32), 0);
		ck_assert_int_eq(ring_collect(&rig->ring, &used), 1);
		ck_assert_uint_eq(used.len, 32);
	}
}

START_TEST(indirect_tables_may_be_longer_than_the_queue)
{
	rig_matrix(indirect_chains);
}
END_TEST

/* 2.7.5.3.2: direct descriptors first, and WRITE of the one that refers to the table does not count. */
START_TEST(split_direct_descriptors_may_end_in_a_table)
{
	static struct rig rig;
	rig_init(&rig, &(struct virtq_setup){.size = 4, .indirect = true});
	rig_add(&rig, 2, 0, 64, false);
	const uint64_t table_gpa = RIG_DATA_GPA + 4097; /* no alignment is asked for */
	struct ring_desc *desc = &rig.ring.desc[rig.ring.desc[0].split.next];
	*desc = (struct ring_desc){.addr = table_gpa, .len = 32, .split = {RING_INDIRECT | RING_WRITE, 3}};
	const struct ring_desc table[2] = {{.addr = RIG_DATA_GPA, .len = 1, .split = {RING_NEXT, 1}},
					   {.addr = RIG_DATA_GPA, .len = 2, .split = {RING_WRITE, 0xffff}}};
	ck_assert_int_eq(guest_memory_write(rig.memory, table_gpa, table, sizeof(table)), 0);
	ck_assert_int_eq(rig_pop(&rig), 1);
	ck_assert_uint_eq(rig.chain.desc_count, 2);
	ck_assert_uint_eq(rig.chain.read_bytes, 65);
	ck_assert_uint_eq(rig.chain.write_bytes, 2);
	rig_finish(&rig);
}
END_TEST

/* 2.8.7: in a packed table only WRITE counts. */
START_TEST(packed_tables_have_no_flags_but_write)
{
	static struct rig rig;
	rig_init(&rig, &(struct virtq_setup){.size = 4, .packed = true, .indirect = true});
	rig_add(&rig, 1, 2, 64, true);
	rig.ring.desc[0].packed.flags |= RING_WRITE;
	for (unsigned i = 0; i < 3; i++) {
		rig.ring.tables[i].packed.flags ^= (uint16_t)~RING_WRITE;
		rig.ring.tables[i].packed.id = 0xffff;
	}
	ck_assert_int_eq(rig_pop(&rig), 1);
	ck_assert_uint_eq(rig.chain.head, 0);
	ck_assert_uint_eq(rig.chain.read_count, 1);
	ck_assert_uint_eq(rig.chain.write_count, 2);
	rig_finish(&rig);
}
END_TEST

static void zero_lengths(struct rig *rig)
{
	if (rig->vq.setup.size < 4)
		return;
	const struct ring_buffer buffers[] = {{UINT64_MAX, 0, false},
					      {RIG_DATA_GPA, 5, false},
					      {RIG_RAM, 0, true},
					      {RIG_DATA_GPA, 6, true}};
	ring_add(&rig->ring, buffers, 4, rig->vq.setup.indirect);
	ring_publish(&rig->ring);
	ck_assert_int_eq(rig_pop(rig), 1);
	ck_assert_uint_eq(rig->chain.read_count, 1);
	ck_assert_uint_eq(rig->chain.write_count, 1);
	ck_assert_uint_eq(rig->iov[0].iov_len, 5);
	ck_assert_uint_eq(rig->iov[1].iov_len, 6);
	ck_assert_int_eq(virtq_push(&rig->vq, &rig->chain, 6), 0);
	struct ring_used used;
	ck_assert_int_eq(ring_collect(&rig->ring, &used), 1);
	ring_add(&rig->ring, buffers, 1, false);
	ring_publish(&rig->ring);
	ck_assert_int_eq(rig_pop(rig), 1);
	ck_assert_uint_eq(rig->chain.read_count + rig->chain.write_count, 0);
	ck_assert_int_eq(virtq_push(&rig->vq, &rig->chain, 0), 0);
}

START_TEST(descriptors_of_length_0_give_no_buffer)
{
	rig_matrix(zero_lengths);
}
END_TEST

/* ---- giving back ---- */

static void mistaken_pushes(struct rig *rig)
{
	struct ring_used used;
	rig_add(rig, 0, 1, 10, false);
	ck_assert_int_eq(rig_pop(rig), 1);
	struct virtq_chain other = rig->chain;
	other.head = rig->vq.setup.size;
	ck_assert_int_eq(virtq_push(&rig->vq, &other, 0), -EINVAL);
	if (rig->vq.setup.size > 1) {
		other.head = (uint16_t)(rig->chain.head ^ 1);
		ck_assert_int_eq(virtq_push(&rig->vq, &other, 0), -EINVAL);
	}
	ck_assert_int_eq(virtq_push(&rig->vq, &rig->chain, 11), -EINVAL);
	ck_assert_int_eq(ring_collect(&rig->ring, &used), 0);
	ck_assert_int_eq(virtq_push(&rig->vq, &rig->chain, 10), 0);
	ck_assert_int_eq(virtq_push(&rig->vq, &rig->chain, 10), -EINVAL);
	ck_assert_int_eq(virtq_unpop(&rig->vq, &rig->chain), -EINVAL);
	ck_assert_int_eq(ring_collect(&rig->ring, &used), 1);
	ck_assert_int_eq(ring_collect(&rig->ring, &used), 0);
	ck_assert_uint_eq(rig->vq.in_flight, 0);
	ck_assert(!rig->vq.broken);
}

START_TEST(what_is_not_in_flight_is_not_pushed)
{
	rig_matrix(mistaken_pushes);
}
END_TEST

/* 2.7.8, 2.8.3, 2.8.4: what lies in memory, to the byte. */
START_TEST(used_entries_to_the_byte)
{
	static struct rig rig;
	for (int packed = 0; packed < 2; packed++) {
		rig_init(&rig, &(struct virtq_setup){.size = 2, .packed = packed});
		for (uint32_t i = 0; i < 4; i++) {
			struct ring_used used;
			rig_add(&rig, 0, 1, 0x10, false);
			ck_assert_int_eq(rig_pop(&rig), 1);
			ck_assert_int_eq(virtq_push(&rig.vq, &rig.chain, 5 * (i % 2)), 0);
			if (packed) {
				uint16_t round = i < 2 ? RING_AVAIL | RING_USED : 0;
				ck_assert_uint_eq(rig.ring.desc[i % 2].packed.id, rig.chain.head);
				ck_assert_uint_eq(rig.ring.desc[i % 2].len, 5 * (i % 2));
				ck_assert_uint_eq(rig.ring.desc[i % 2].packed.flags,
						  round | (i % 2 ? RING_WRITE : 0));
			} else {
				ck_assert_uint_eq(rig.ring.used->idx, i + 1);
				ck_assert_uint_eq(rig.ring.used->ring[i % 2].id, rig.chain.head);
				ck_assert_uint_eq(rig.ring.used->ring[i % 2].len, 5 * (i % 2));
			}
			ck_assert_int_eq(ring_collect(&rig.ring, &used), 1);
		}
		rig_finish(&rig);
	}
}
END_TEST

/* Chains of several descriptors, so that a packed ring goes back over its end. */
static void pop_and_unpop(struct rig *rig)
{
	uint16_t size = rig->vq.setup.size;
	unsigned descs = size > 2 ? 2 : 1, seen = 0;
	struct virtq_chain first, second;
	struct ring_used used;
	for (unsigned i = 0; i < 3U * size; i++) {
		bool two = size >= 2 * descs;
		struct virtq_position before = rig->vq.at;
		int id = rig_add(rig, 0, descs, 4, false);
		int next = two ? rig_add(rig, 0, descs, 4, false) : -1;
		ck_assert_int_eq(rig_pop(rig), 1);
		first = rig->chain;
		if (two) {
			ck_assert_int_eq(rig_pop(rig), 1);
			second = rig->chain;
			ck_assert_int_eq(virtq_unpop(&rig->vq, &first), -EINVAL); /* not the latest */
			ck_assert_int_eq(virtq_unpop(&rig->vq, &second), 0);
		}
		ck_assert_int_eq(virtq_unpop(&rig->vq, &first), 0);
		ck_assert_mem_eq(&rig->vq.at, &before, sizeof(before));
		ck_assert_uint_eq(rig->vq.in_flight, 0);
		for (unsigned j = 0; j < (two ? 2 : 1); j++, seen++) {
			ck_assert_int_eq(rig_pop(rig), 1);
			ck_assert_int_eq(rig->chain.head, j ? next : id);
			ck_assert_int_eq(virtq_push(&rig->vq, &rig->chain, 0), 0);
			ck_assert_int_eq(ring_collect(&rig->ring, &used), 1);
		}
	}
	ck_assert_uint_ge(seen, size);
}

START_TEST(unpop_undoes_the_latest_pop)
{
	rig_matrix(pop_and_unpop);
}
END_TEST

/* 2.7.9, 2.8.8 */
START_TEST(in_order_holds_back_until_its_turn)
{
	static struct rig rig;
	for (int packed = 0; packed < 2; packed++) {
		struct virtq_chain chains[3];
		struct ring_used used;
		rig_init(&rig, &(struct virtq_setup){.size = 8, .packed = packed, .in_order = true});
		for (unsigned i = 0; i < 3; i++) {
			rig_add(&rig, 0, 1 + i % 2, 4, false);
			ck_assert_int_eq(rig_pop(&rig), 1);
			chains[i] = rig.chain;
		}
		ck_assert_int_eq(virtq_push(&rig.vq, &chains[2], 2), 0);
		ck_assert_int_eq(virtq_push(&rig.vq, &chains[1], 1), 0);
		ck_assert_uint_eq(rig.vq.in_flight, 1);
		ck_assert_int_eq(ring_collect(&rig.ring, &used), 0);
		ck_assert(!virtq_should_interrupt(&rig.vq));
		ck_assert_int_eq(virtq_push(&rig.vq, &chains[0], 4), 0);
		ck_assert(virtq_should_interrupt(&rig.vq));
		for (unsigned i = 0; i < 3; i++) {
			ck_assert_int_eq(ring_collect(&rig.ring, &used), 1);
			ck_assert_uint_eq(used.id, chains[i].head);
			ck_assert_uint_eq(used.len, i ? i : 4);
		}
		rig_finish(&rig);
	}
}
END_TEST

/* ---- bytes ---- */

START_TEST(bytes_cross_buffers_and_stop_at_the_end)
{
	static struct rig rig;
	uint8_t bytes[64];
	rig_init(&rig, &(struct virtq_setup){.size = 8});
	rig_add(&rig, 3, 2, 4, false);
	ck_assert_int_eq(guest_memory_write(rig.memory, RIG_DATA_GPA, "abcdefghijklmnopqrst", 20), 0);
	ck_assert_int_eq(rig_pop(&rig), 1);
	ck_assert_uint_eq(virtq_chain_read(&rig.chain, 0, bytes, sizeof(bytes)), 12);
	ck_assert_mem_eq(bytes, "abcdefghijkl", 12);
	ck_assert_uint_eq(virtq_chain_read(&rig.chain, 3, bytes, 6), 6);
	ck_assert_mem_eq(bytes, "defghi", 6);
	ck_assert_uint_eq(virtq_chain_read(&rig.chain, 11, bytes, 6), 1);
	ck_assert_uint_eq(virtq_chain_read(&rig.chain, 12, bytes, 6), 0);
	ck_assert_uint_eq(virtq_chain_read(&rig.chain, SIZE_MAX, bytes, 6), 0);
	ck_assert_uint_eq(virtq_chain_write(&rig.chain, 2, "0123456789", 10), 6);
	ck_assert_uint_eq(virtq_chain_write(&rig.chain, 8, "x", 1), 0);
	ck_assert_mem_eq(guest_memory_at(rig.memory, RIG_DATA_GPA, 24), "abcdefghijklmn012345\0\0\0\0", 24);
	rig_finish(&rig);
}
END_TEST

TEST_MAIN("virtq", init_refuses_what_2_7_and_2_8_forbid, init_takes_only_positions_with_nothing_in_flight,
	  every_set_up_fills_and_drains, a_chain_may_be_as_long_as_the_queue,
	  indirect_tables_may_be_longer_than_the_queue, split_direct_descriptors_may_end_in_a_table,
	  packed_tables_have_no_flags_but_write, descriptors_of_length_0_give_no_buffer,
	  what_is_not_in_flight_is_not_pushed, used_entries_to_the_byte, unpop_undoes_the_latest_pop,
	  in_order_holds_back_until_its_turn, bytes_cross_buffers_and_stop_at_the_end)
