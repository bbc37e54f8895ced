/* The network device's data path (VIRTIO 1.3, 5.1.6), by two of them that are each other's cable. */
#include "net_rig.h"

#include <sched.h>

static struct rig rig;
static uint8_t frame[RIG_FRAME_MAX];

static const size_t lengths[] = {14, 15, 60, 61, 1024, 1514, 1518};

/* a sends, b receives exactly that. */
static void pass(struct nic *from, struct nic *to, size_t len, unsigned seed)
{
	make_frame(frame, len, seed);
	nic_send(from, frame, len);
	ck_assert_uint_eq(nic_receive(to, RIG_RX), len);
	ck_assert_mem_eq(to->frame, frame, len);
	ck_assert_uint_eq(to->header.flags, 0);
	ck_assert_uint_eq(to->header.gso_type, 0);
}

START_TEST(frames_pass_both_ways_in_every_layout)
{
	rig_init(&rig);
	for (size_t i = 0; i < ARRAY_LEN(rig_layouts) * 2; i++) {
		uint64_t merge = i & 1 ? NET_F_MRG_RXBUF : 0;
		nic_start(&rig.a, rig_layouts[i / 2] | merge);
		nic_start(&rig.b, rig_layouts[i / 2]);
		for (unsigned n = 0; n < 10; n++) {
			nic_post(&rig.a, RIG_RX, ARRAY_LEN(lengths), 2048);
			nic_post(&rig.b, RIG_RX, ARRAY_LEN(lengths), 2048);
			for (size_t k = 0; k < ARRAY_LEN(lengths); k++) {
				pass(&rig.a, &rig.b, lengths[k], n);
				pass(&rig.b, &rig.a, lengths[k], n + 100);
			}
		}
	}
	ck_assert_uint_eq(nic_counts(&rig.a).tx_packets, 8 * 10 * ARRAY_LEN(lengths));
	ck_assert_uint_eq(nic_counts(&rig.b).rx_packets, 8 * 10 * ARRAY_LEN(lengths));
	ck_assert_uint_eq(nic_counts(&rig.a).tx_dropped + nic_counts(&rig.b).rx_dropped, 0);
	rig_finish(&rig);
}
END_TEST

/* More than the socket, the batch and the queues hold: nothing is lost, and the order stays. */
START_TEST(frames_wait_for_buffers_and_keep_their_order)
{
	enum { FRAMES = 2000 };
	rig_init(&rig);
	for (size_t i = 0; i < ARRAY_LEN(rig_layouts); i++) {
		nic_start(&rig.a, rig_layouts[i]);
		nic_start(&rig.b, rig_layouts[i]);
		unsigned sent = 0, collected = 0, idle = 0;
		for (unsigned received = 0; received < FRAMES;) {
			struct ring_used used;
			for (; sent < FRAMES && sent - collected < 16; sent++)
				ck_assert_int_ge(nic_submit(&rig.a, RIG_TX, &(struct net_header){0}, frame,
							    make_frame(frame, 1000 + sent % 500, sent)),
						 0);
			while (driver_try_collect(&rig.a.driver, RIG_TX, &used) == 1)
				collected++;
			if (received == 0 && ++idle < 2000)
				continue;	/* b's side fills up */
			if (received == sent) { /* b has them all before a has told that they are sent */
				(void)sched_yield();
				continue;
			}
			nic_post(&rig.b, RIG_RX, 1, 2048);
			size_t len = nic_receive(&rig.b, RIG_RX);
			ck_assert_uint_eq(len, make_frame(frame, 1000 + received % 500, received));
			ck_assert_mem_eq(rig.b.frame, frame, len);
			received++;
		}
	}
	rig_finish(&rig);
}
END_TEST

/* 5.1.6.3.1: a frame that is larger than a buffer takes several. */
START_TEST(large_frames_are_split_over_mergeable_buffers)
{
	rig_init(&rig);
	for (size_t i = 0; i < ARRAY_LEN(rig_layouts); i++) {
		nic_start(&rig.a, rig_layouts[i]);
		nic_start(&rig.b, rig_layouts[i] | NET_F_MRG_RXBUF);
		nic_post(&rig.b, RIG_RX, RIG_QUEUE, 1100);
		for (unsigned n = 0; n < 30; n++) {
			size_t len = n % 3 == 0 ? 60 : n % 3 == 1 ? 9014 : 1088 + n % 5;
			pass(&rig.a, &rig.b, len, n);
			unsigned buffers = (unsigned)((len + NET_HEADER_BYTES + 1099) / 1100);
			ck_assert_uint_eq(rig.b.header.num_buffers, buffers);
			nic_post(&rig.b, RIG_RX, buffers, 1100);
		}
		pass(&rig.a, &rig.b, 65553, 1); /* the largest */
	}
	rig_finish(&rig);
}
END_TEST

/* It does not fit yet, and it is not torn: the rest of the buffers come later. */
START_TEST(a_split_frame_waits_for_all_of_its_buffers)
{
	rig_init(&rig);
	for (size_t i = 0; i < ARRAY_LEN(rig_layouts); i++) {
		nic_start(&rig.a, rig_layouts[i]);
		nic_start(&rig.b, rig_layouts[i] | NET_F_MRG_RXBUF);
		nic_post(&rig.b, RIG_RX, 3, 1000);
		nic_send(&rig.a, frame, make_frame(frame, 4500, 1));
		nic_send(&rig.a, frame, make_frame(frame, 100, 2));
		rig_sleep_ms(20);
		ck_assert(!nic_has_received(&rig.b, RIG_RX));
		nic_post(&rig.b, RIG_RX, 10, 1000);
		ck_assert_uint_eq(nic_receive(&rig.b, RIG_RX), make_frame(frame, 4500, 1));
		ck_assert_mem_eq(rig.b.frame, frame, 4500);
		ck_assert_uint_eq(nic_receive(&rig.b, RIG_RX), make_frame(frame, 100, 2));
		ck_assert_mem_eq(rig.b.frame, frame, 100);
	}
	rig_finish(&rig);
}
END_TEST

/* The guest has given all that it can: it cannot get this frame, but the next ones. */
START_TEST(a_frame_larger_than_the_whole_queue_is_dropped)
{
	rig_init(&rig);
	for (size_t i = 0; i < ARRAY_LEN(rig_layouts); i++) {
		const struct driver_options options = {.features = rig_layouts[i] | NET_F_MRG_RXBUF,
						       .queue_size = 8};
		uint64_t before = nic_counts(&rig.b).rx_dropped;
		nic_start(&rig.a, rig_layouts[i]);
		ck_assert_int_eq(driver_start(&rig.b.driver, &options), 0);
		nic_post(&rig.b, RIG_RX, 8, 1000);
		nic_send(&rig.a, frame, make_frame(frame, 9000, 1));
		pass(&rig.a, &rig.b, 2000, 2);
		ck_assert_uint_eq(nic_counts(&rig.b).rx_dropped, before + 1);
	}
	rig_finish(&rig);
}
END_TEST

START_TEST(without_mergeable_buffers_a_frame_that_is_too_long_is_dropped)
{
	rig_init(&rig);
	for (size_t i = 0; i < ARRAY_LEN(rig_layouts); i++) {
		nic_start(&rig.a, rig_layouts[i]);
		nic_start(&rig.b, rig_layouts[i]);
		uint64_t before = nic_counts(&rig.b).rx_dropped;
		nic_post(&rig.b, RIG_RX, 20, 1012);
		for (unsigned n = 0; n < 10; n++) {
			nic_send(&rig.a, frame, make_frame(frame, 1001, n));
			pass(&rig.a, &rig.b, 1000, n);
		}
		ck_assert_uint_eq(nic_counts(&rig.b).rx_dropped, before + 10);
		/* Those that were too small for one are still there for the others. */
		for (unsigned n = 0; n < 10; n++)
			pass(&rig.a, &rig.b, 999, n);
	}
	rig_finish(&rig);
}
END_TEST

/* ---- broken rules ---- */

static int submit_flat(struct nic *nic, const void *data, uint32_t len, bool writable_tail)
{
	uint64_t gpa = world_alloc(nic->world, len + 64U);
	memcpy(world_at(nic->world, gpa, len), data, len);
	const struct ring_buffer buffers[] = {{gpa, len, false}, {gpa + len, 64, true}};
	return driver_submit(&nic->driver, RIG_TX, buffers, writable_tail ? 2 : 1);
}

START_TEST(malformed_packets_are_dropped_and_counted)
{
	static uint8_t packet[NET_HEADER_BYTES + NET_FRAME_MAX + 1];
	const struct net_header bad_headers[] = {
		{.flags = 1, .csum_start = 14, .csum_offset = 16}, /* CSUM was not negotiated */
		{.gso_type = 1, .gso_size = 1400, .hdr_len = 54},  /* nor TSO */
		{.gso_type = 3, .gso_size = 1400, .hdr_len = 54},  /* no such thing here */
		{.gso_type = 0x80},				   /* ECN of nothing */
	};
	rig_init(&rig);
	nic_start(&rig.a, 0);
	nic_start(&rig.b, 0);
	nic_post(&rig.b, RIG_RX, 8, 2048);
	ck_assert_int_ge(submit_flat(&rig.a, packet, NET_HEADER_BYTES, false), 0);
	nic_collect_sent(&rig.a, RIG_TX);
	ck_assert_int_ge(submit_flat(&rig.a, packet, NET_HEADER_BYTES + 13, false), 0);
	nic_collect_sent(&rig.a, RIG_TX);
	ck_assert_int_ge(submit_flat(&rig.a, packet, sizeof(packet), false), 0);
	nic_collect_sent(&rig.a, RIG_TX);
	ck_assert_int_ge(submit_flat(&rig.a, packet, 100, true), 0);
	nic_collect_sent(&rig.a, RIG_TX);
	for (size_t i = 0; i < ARRAY_LEN(bad_headers); i++)
		nic_send_with(&rig.a, RIG_TX, &bad_headers[i], frame, make_frame(frame, 1000, 1));
	ck_assert_uint_eq(nic_counts(&rig.a).tx_dropped, 4 + ARRAY_LEN(bad_headers));
	pass(&rig.a, &rig.b, 1000, 5);
	ck_assert(!(driver_status(&rig.a.driver) & DRIVER_NEEDS_RESET));
	rig_finish(&rig);
}
END_TEST

START_TEST(a_header_cut_short_needs_a_reset)
{
	static const uint8_t packet[NET_HEADER_BYTES];
	rig_init(&rig);
	nic_start(&rig.a, VIRTIO_F_RING_PACKED);
	ck_assert_int_ge(submit_flat(&rig.a, packet, NET_HEADER_BYTES - 1, false), 0);
	ck_assert_int_eq(driver_wait_status(&rig.a.driver, DRIVER_NEEDS_RESET), 0);
	nic_start(&rig.a, 0); /* and is well after it */
	nic_start(&rig.b, 0);
	nic_post(&rig.b, RIG_RX, 1, 2048);
	pass(&rig.a, &rig.b, 64, 1);
	nic_post(&rig.b, RIG_RX, 1, NET_HEADER_BYTES - 1); /* likewise a buffer without room for one */
	nic_send(&rig.a, frame, make_frame(frame, 64, 1));
	ck_assert_int_eq(driver_wait_status(&rig.b.driver, DRIVER_NEEDS_RESET), 0);
	rig_finish(&rig);
}
END_TEST

/* 5.1.6.2: the header need not be alone; any split of it is the same packet. */
START_TEST(the_header_may_lie_in_any_pieces)
{
	enum { LEN = 200 };
	rig_init(&rig);
	nic_start(&rig.a, 0);
	nic_start(&rig.b, 0);
	nic_post(&rig.b, RIG_RX, 40, 2048);
	uint64_t gpa = world_alloc(&rig.world, NET_HEADER_BYTES + LEN);
	uint8_t *at = world_at(&rig.world, gpa, NET_HEADER_BYTES + LEN);
	make_frame(frame, LEN, 9);
	memcpy(at + NET_HEADER_BYTES, frame, LEN);
	for (uint32_t cut = 1; cut < 30; cut++) {
		const uint32_t rest = NET_HEADER_BYTES + LEN - cut - 1;
		const struct ring_buffer buffers[] = {
			{gpa, cut, false}, {gpa + cut, 1, false}, {gpa + cut + 1, rest, false}};
		ck_assert_int_ge(driver_submit(&rig.a.driver, RIG_TX, buffers, 3), 0);
		nic_collect_sent(&rig.a, RIG_TX);
		ck_assert_uint_eq(nic_receive(&rig.b, RIG_RX), LEN);
		ck_assert_mem_eq(rig.b.frame, frame, LEN);
	}
	rig_finish(&rig);
}
END_TEST

START_TEST(headers_are_judged_by_what_was_negotiated)
{
	const uint64_t all = NET_F_CSUM | NET_F_HOST_TSO4 | NET_F_HOST_TSO6 | NET_F_HOST_ECN;
	static const struct {
		struct net_header header;
		size_t len;
		uint64_t without;
		bool good;
	} cases[] = {
		{{.flags = 0xfe}, 60, 0, true}, /* bits that nobody knows */
		{{.flags = 1, .csum_start = 34, .csum_offset = 16}, 60, 0, true},
		{{.flags = 1, .csum_start = 34, .csum_offset = 16}, 60, NET_F_CSUM, false},
		{{.flags = 1, .csum_start = 42, .csum_offset = 16}, 60, 0, true},
		{{.flags = 1, .csum_start = 43, .csum_offset = 16}, 60, 0, false},
		{{.flags = 1, .csum_start = 0xffff, .csum_offset = 0xffff}, 60, 0, false},
		{{.flags = 1, .gso_type = 1, .gso_size = 1400, .csum_start = 34, .csum_offset = 16},
		 9000,
		 0,
		 true},
		{{.flags = 1, .gso_type = 4, .gso_size = 1400, .csum_start = 34, .csum_offset = 16},
		 9000,
		 0,
		 true},
		{{.flags = 1, .gso_type = 1, .gso_size = 0, .csum_start = 34, .csum_offset = 16},
		 9000,
		 0,
		 false},
		{{.flags = 0, .gso_type = 1, .gso_size = 1400}, 9000, 0, false},
		{{.flags = 1, .gso_type = 1, .gso_size = 9, .csum_start = 34, .csum_offset = 16},
		 9000,
		 NET_F_HOST_TSO4,
		 false},
		{{.flags = 1, .gso_type = 4, .gso_size = 9, .csum_start = 34, .csum_offset = 16},
		 9000,
		 NET_F_HOST_TSO6,
		 false},
		{{.flags = 1, .gso_type = 0x81, .gso_size = 9, .csum_start = 34, .csum_offset = 16},
		 9000,
		 0,
		 true},
		{{.flags = 1, .gso_type = 0x81, .gso_size = 9, .csum_start = 34, .csum_offset = 16},
		 9000,
		 NET_F_HOST_ECN,
		 false},
		{{.flags = 1, .gso_type = 5, .gso_size = 9, .csum_start = 34, .csum_offset = 16},
		 9000,
		 0,
		 false},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct net_header header = cases[i].header;
		bool good = net_header_check(&header, cases[i].len, all & ~cases[i].without);
		ck_assert_msg(good == cases[i].good, "case %zu", i);
		ck_assert_uint_le(header.flags, 1);
	}
}
END_TEST

TEST_MAIN("net", frames_pass_both_ways_in_every_layout, frames_wait_for_buffers_and_keep_their_order,
	  large_frames_are_split_over_mergeable_buffers, a_split_frame_waits_for_all_of_its_buffers,
	  a_frame_larger_than_the_whole_queue_is_dropped,
	  without_mergeable_buffers_a_frame_that_is_too_long_is_dropped,
	  malformed_packets_are_dropped_and_counted, a_header_cut_short_needs_a_reset,
	  the_header_may_lie_in_any_pieces, headers_are_judged_by_what_was_negotiated)
