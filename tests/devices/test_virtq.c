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

TEST_MAIN("virtq", init_refuses_what_2_7_and_2_8_forbid, init_takes_only_positions_with_nothing_in_flight,
	  every_set_up_fills_and_drains)
