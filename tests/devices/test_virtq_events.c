/* Virtqueue notifications: who tells whom, and when not (VIRTIO 1.3, 2.7.7, 2.7.10, 2.8.10). */
#include "virtq_rig.h"

/* One request from driver to device and back, with `descs` descriptors. */
static void serve(struct rig *rig, unsigned descs)
{
	ck_assert_int_ge(rig_add(rig, 0, descs, 8, false), 0);
	ck_assert_int_eq(rig_pop(rig), 1);
	ck_assert_int_eq(virtq_push(&rig->vq, &rig->chain, 8), 0);
}

static void collect(struct rig *rig, int count)
{
	struct ring_used used;
	for (int i = 0; i < count; i++)
		ck_assert_int_eq(ring_collect(&rig->ring, &used), 1);
	ck_assert_int_eq(ring_collect(&rig->ring, &used), 0);
}

/* ---- interrupts ---- */

static void interrupts_on_and_off(struct rig *rig)
{
	ck_assert(!virtq_should_interrupt(&rig->vq)); /* nothing is new */
	ck_assert(!ring_enable_interrupt(&rig->ring, 0));
	serve(rig, 1);
	ck_assert_msg(virtq_should_interrupt(&rig->vq), "%s", rig->name);
	ck_assert(!virtq_should_interrupt(&rig->vq)); /* told already */
	collect(rig, 1);
	ring_disable_interrupt(&rig->ring);
	serve(rig, 1);
	ck_assert_msg(!virtq_should_interrupt(&rig->vq), "%s", rig->name);
	ck_assert(ring_enable_interrupt(&rig->ring, 0)); /* the driver sees it by itself */
	collect(rig, 1);
	ck_assert(!ring_enable_interrupt(&rig->ring, 0));
	serve(rig, 1);
	ck_assert_msg(virtq_should_interrupt(&rig->vq), "%s", rig->name);
	collect(rig, 1);
}

START_TEST(interrupts_come_when_asked_for)
{
	rig_matrix(interrupts_on_and_off);
}
END_TEST

/*
 * The driver asks for the entry `skip` further on, the device uses `count` entries and asks itself once.
 * Every start around the 16-bit wrap (split) and around the ring's end (packed), so that an error by one
 * shows.
 */
static void interrupt_after(bool packed, uint16_t size, uint16_t start, bool wrap, uint16_t skip,
			    uint16_t count)
{
	static struct rig rig;
	rig_init_at(&rig, &(struct virtq_setup){.size = size, .packed = packed, .event_idx = true}, start,
		    wrap);
	ring_enable_interrupt(&rig.ring, skip);
	for (uint16_t i = 0; i < count; i++) {
		serve(&rig, 1);
		collect(&rig, 1);
	}
	bool wants = virtq_should_interrupt(&rig.vq);
	ck_assert_msg(wants == (count > skip), "%s from %u: %u after %u: %d", rig.name, start, count, skip,
		      wants);
	rig_finish(&rig);
}

START_TEST(split_events_count_across_the_16_bit_wrap)
{
	for (unsigned start = 0xfffa; start < 0x10004; start++)
		for (uint16_t skip = 0; skip < 5; skip++)
			for (uint16_t count = 0; count < 7; count++)
				interrupt_after(false, 4, (uint16_t)start, true, skip, count);
}
END_TEST

START_TEST(packed_events_count_across_the_end_of_the_ring)
{
	/* The event lies within the round that it names: at most size entries ahead. */
	for (uint16_t size = 1; size <= 5; size++)
		for (uint16_t start = 0; start < size; start++)
			for (uint16_t skip = 0; skip < size; skip++)
				for (uint16_t count = 0; count <= size; count++) {
					interrupt_after(true, size, start, true, skip, count);
					interrupt_after(true, size, start, false, skip, count);
				}
}
END_TEST

/* 2.8.10: the event may name a slot in the middle of a chain; used entries jump over it. */
START_TEST(packed_event_inside_a_chain_counts)
{
	static struct rig rig;
	for (uint16_t skip = 0; skip < 8; skip++) {
		rig_init(&rig, &(struct virtq_setup){.size = 8, .packed = true, .event_idx = true});
		ring_enable_interrupt(&rig.ring, skip);
		serve(&rig, 3);
		ck_assert(virtq_should_interrupt(&rig.vq) == (skip < 3));
		serve(&rig, 3);
		ck_assert(virtq_should_interrupt(&rig.vq) == (skip >= 3 && skip < 6));
		rig_finish(&rig);
	}
}
END_TEST

/* More used than the index can tell apart: the event was among them, wherever it was. */
static void many_unsignalled(bool packed, unsigned count)
{
	static struct rig rig;
	rig_init(&rig, &(struct virtq_setup){.size = 4, .packed = packed, .event_idx = true});
	ring_disable_interrupt(&rig.ring);
	if (packed) /* off the ring: this slot never comes */
		*rig.ring.driver_event = 2U << 16 | 1U << 15 | 2;
	for (unsigned i = 0; i < count; i++) {
		serve(&rig, 1);
		collect(&rig, 1);
	}
	ck_assert(virtq_should_interrupt(&rig.vq));
	rig_finish(&rig);
}

START_TEST(rounds_without_asking_lose_no_event)
{
	many_unsignalled(false, 0x10000);
	many_unsignalled(false, 0x10001);
	many_unsignalled(true, 3);
	many_unsignalled(true, 8);
	many_unsignalled(true, 9);
}
END_TEST

/* A driver's area of reserved values (2.8.10), or DESC without VIRTIO_F_EVENT_IDX, costs it interrupts at
 * most. */
START_TEST(packed_reserved_event_flags_mean_enabled)
{
	static struct rig rig;
	for (uint32_t flags = 0; flags < 4; flags++) {
		rig_init(&rig, &(struct virtq_setup){.size = 4, .packed = true});
		*rig.ring.driver_event = flags << 16 | 0xffff;
		serve(&rig, 1);
		ck_assert(virtq_should_interrupt(&rig.vq) == (flags != 1));
		rig_finish(&rig);
	}
	rig_init(&rig, &(struct virtq_setup){.size = 4, .packed = true, .event_idx = true});
	*rig.ring.driver_event = 2U << 16 | 0x7fff; /* an offset beyond the ring: somewhere or nowhere */
	serve(&rig, 1);
	(void)virtq_should_interrupt(&rig.vq);
	*rig.ring.driver_event = 3U << 16;
	serve(&rig, 1);
	ck_assert(virtq_should_interrupt(&rig.vq));
	rig_finish(&rig);
}
END_TEST

START_TEST(after_a_restore_the_first_use_interrupts)
{
	static struct rig rig;
	for (int packed = 0; packed < 2; packed++) {
		rig_init(&rig, &(struct virtq_setup){.size = 4, .packed = packed, .event_idx = true});
		serve(&rig, 1);
		collect(&rig, 1);
		struct virtq_position at = rig.vq.at;
		ck_assert_int_eq(virtq_init(&rig.vq, rig.memory, &rig.ring.setup, &at), 0);
		ring_enable_interrupt(&rig.ring, 3);
		ck_assert(!virtq_should_interrupt(&rig.vq));
		serve(&rig, 1);
		ck_assert(virtq_should_interrupt(&rig.vq));
		serve(&rig, 1);
		ck_assert(!virtq_should_interrupt(&rig.vq));
		collect(&rig, 2);
		rig_finish(&rig);
	}
}
END_TEST

/* ---- doorbells ---- */

static void doorbells_on_and_off(struct rig *rig)
{
	struct ring_used used;
	for (unsigned i = 0; i < 9; i++) {
		rig_add(rig, 0, 1, 8, false);
		bool expected = i == 0 || i % 3 == 2; /* on from the beginning */
		if (i % 3 == 0 && !rig->vq.setup.event_idx)
			expected = true; /* still on: an event goes off once */
		ck_assert_msg(ring_wants_doorbell(&rig->ring) == expected, "%s %u", rig->name, i);
		ck_assert(!ring_wants_doorbell(&rig->ring));
		if (i % 3 == 0)
			virtq_disable_doorbell(&rig->vq);
		if (i % 3 == 1)
			ck_assert(virtq_enable_doorbell(&rig->vq)); /* one has come in between */
		ck_assert_int_eq(rig_pop(rig), 1);
		if (i % 3 == 0)
			virtq_disable_doorbell(&rig->vq); /* still off */
		if (i % 3 == 1)
			ck_assert(!virtq_enable_doorbell(&rig->vq));
		ck_assert_int_eq(virtq_push(&rig->vq, &rig->chain, 0), 0);
		ck_assert_int_eq(ring_collect(&rig->ring, &used), 1);
	}
}

START_TEST(doorbells_come_when_asked_for)
{
	rig_matrix(doorbells_on_and_off);
}
END_TEST

/* As interrupt_after, the other way around: the device asks before, the driver adds `count` and looks. */
static void doorbell_after(bool packed, uint16_t start, bool wrap, unsigned before, unsigned count)
{
	static struct rig rig;
	rig_init_at(&rig, &(struct virtq_setup){.size = 5 - !packed, .packed = packed, .event_idx = true},
		    start, wrap);
	for (unsigned i = 0; i < before; i++) {
		serve(&rig, 1);
		collect(&rig, 1);
	}
	(void)ring_wants_doorbell(&rig.ring);
	ck_assert(!virtq_enable_doorbell(&rig.vq));
	for (unsigned i = 0; i < count; i++)
		rig_add(&rig, 0, 1, 8, false);
	ck_assert(ring_wants_doorbell(&rig.ring) == (count > 0));
	rig_add(&rig, 0, 1, 8, false);
	ck_assert(ring_wants_doorbell(&rig.ring) == (count == 0)); /* only the entry that it asked for */
	rig_finish(&rig);
}

START_TEST(doorbell_events_count_across_wraps)
{
	for (unsigned before = 0; before < 12; before++)
		for (unsigned count = 0; count < 4; count++) {
			doorbell_after(false, 0xfffa, true, before, count);
			doorbell_after(true, 0, true, before, count);
			doorbell_after(true, 2, false, before, count);
		}
}
END_TEST

TEST_MAIN("virtq_events", interrupts_come_when_asked_for, split_events_count_across_the_16_bit_wrap,
	  packed_events_count_across_the_end_of_the_ring, packed_event_inside_a_chain_counts,
	  rounds_without_asking_lose_no_event, packed_reserved_event_flags_mean_enabled,
	  after_a_restore_the_first_use_interrupts, doorbells_come_when_asked_for,
	  doorbell_events_count_across_wraps)
