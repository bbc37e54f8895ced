/* vhost-user back ends that are wrong: in every way that the protocol gives them, at every command. */
#include "harness.h"
#include "vhost_user_rig.h"

enum { SECOND_NS = 1000000000 };

static void set_fault(uint32_t request, enum peer_fault fault)
{
	atomic_store(&rig.peer.fault_request, request);
	atomic_store(&rig.peer.fault, fault);
}

/* Which the front end cannot tell from a good one. */
static bool passes(uint32_t request, enum peer_fault fault)
{
	return fault == PEER_FINE || fault == PEER_TWICE ||
	       (fault == PEER_REFUSE && (request == 1 || request == 15 || request == 17));
}

START_TEST(at_the_first_greeting)
{
	static const uint32_t requests[] = {1, 15, 17, 24};
	for (size_t i = 0; i < ARRAY_LEN(requests); i++)
		for (enum peer_fault fault = PEER_FINE; fault < PEER_FAULTS; fault++) {
			struct err err = ERR_INIT;
			uint64_t start = loop_now_ns();
			if (fault == PEER_NONSENSE && requests[i] != 24)
				continue; /* all features, queues without end: a proud one */
			if (fault == PEER_SILENT && i > 0)
				continue; /* that takes its time */
			rig_world(PROTOCOL_ALL);
			set_fault(requests[i], fault);
			peer_start(&rig.peer);
			int r = rig_create(&err);
			if (!passes(requests[i], fault))
				ck_assert_msg(r == -EPROTO && err.text[0], "request %u, fault %d: %d",
					      requests[i], fault, r);
			ck_assert_uint_lt(loop_now_ns() - start, UINT64_C(8) * SECOND_NS);
			if (r == 0)
				vhost_user_class.destroy(rig.device);
			rig_end_world();
		}
}
END_TEST

/* The device starts, fails, waits; the back end becomes good, and the request is done. */
static void check_start(uint32_t request, enum peer_fault fault)
{
	rig_init(PROTOCOL_ALL);
	check_disk(0, 1);
	ck_assert_int_eq(driver_reset(&rig.driver), 0);
	set_fault(request, fault);
	unsigned before = atomic_load(&rig.peer.connections);
	rig_drive();
	submit(0, 7, false, 0);
	for (unsigned i = 0; i < 60 && atomic_load(&rig.peer.connections) == before; i++) {
		if (!rig.peer.running)
			break;
		if (fault == PEER_HANG_UP || fault == PEER_CUT)
			break;
		(void)usleep(1000);
	}
	if (fault == PEER_HANG_UP || fault == PEER_CUT) {
		peer_join(&rig.peer);
		set_fault(0, PEER_FINE);
		peer_start(&rig.peer);
	}
	set_fault(0, PEER_FINE);
	if (driver_status(&rig.driver) & DRIVER_NEEDS_RESET) {
		rig_drive();
		submit(0, 7, false, 0);
	}
	struct ring_used used;
	int r = driver_collect(&rig.driver, 0, &used);
	ck_assert_msg(r == 0, "request %u, fault %d: %d, status %#x", request, fault, r,
		      driver_status(&rig.driver));
	rig_finish();
}

START_TEST(when_queues_are_handed_over)
{
	static const uint32_t requests[] = {2, 5, 8, 9, 10, 12, 13, 18, 31, 32};
	for (size_t i = 0; i < ARRAY_LEN(requests); i++)
		for (enum peer_fault fault = PEER_FINE; fault < PEER_FAULTS; fault++)
			if (fault != PEER_SILENT || requests[i] == 5)
				check_start(requests[i], fault);
}
END_TEST

START_TEST(when_queues_are_taken_back)
{
	for (enum peer_fault fault = PEER_FINE; fault < PEER_FAULTS; fault++) {
		uint64_t start = loop_now_ns();
		rig_init(PROTOCOL_ALL);
		check_disk(0, 1);
		set_fault(11, fault);
		ck_assert_int_eq(driver_reset(&rig.driver), 0);
		ck_assert_uint_lt(loop_now_ns() - start, UINT64_C(8) * SECOND_NS);
		if (fault == PEER_HANG_UP || fault == PEER_CUT) {
			peer_join(&rig.peer);
			set_fault(0, PEER_FINE);
			peer_start(&rig.peer);
		}
		set_fault(0, PEER_FINE);
		rig_drive();
		check_disk(1, 2);
		rig_finish();
	}
}
END_TEST

START_TEST(the_channel_is_noise)
{
	rig_init(PROTOCOL_ALL);
	check_disk(0, 1);
	uint8_t noise[4096];
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (uint8_t)(i * 7);
	_cleanup_close_ int channel = dup(rig.peer.channel_fd);
	(void)send(channel, noise, sizeof(noise), MSG_NOSIGNAL);
	check_disk(0, 2);
	rig_finish();
}
END_TEST

START_TEST(machines_that_cannot_have_one)
{
	struct err err = ERR_INIT;
	rig_world(PROTOCOL_ALL);
	ck_assert_int_eq(rig_create(&err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, rig.peer.path));
	peer_start(&rig.peer);

	static const struct memory_config private_ram = {.size_bytes = 1 << 21};
	struct guest_memory *memory = NULL;
	err = ERR_INIT;
	ck_assert_int_eq(guest_memory_create(&private_ram, &memory, &err), 0);
	struct device_services services = rig.world.services;
	services.memory = memory;
	ck_assert_int_eq(vhost_user_class.create(&rig.config, 0, &services, &rig.device, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "memory.shared"));
	guest_memory_destroy(memory);

	rig.config.kind = VHOST_USER_NET;
	err = ERR_INIT;
	ck_assert_int_eq(rig_create(&err), -EINVAL);
	rig.config.kind = VHOST_USER_BLK;
	rig.config.queues = PEER_QUEUES + 1;
	err = ERR_INIT;
	ck_assert_int_eq(rig_create(&err), -EPROTO);
	ck_assert_ptr_nonnull(strstr(err.text, "fewer queues"));
	rig_end_world();

	rig_world(PROTOCOL_ACK);
	peer_start(&rig.peer);
	err = ERR_INIT;
	ck_assert_int_eq(rig_create(&err), -EPROTO);
	ck_assert_ptr_nonnull(strstr(err.text, "CONFIG"));
	rig_end_world();

	rig_world(PROTOCOL_ALL);
	rig.peer.features &= ~VIRTIO_F_VERSION_1;
	peer_start(&rig.peer);
	err = ERR_INIT;
	ck_assert_int_eq(rig_create(&err), -EPROTO);
	ck_assert_ptr_nonnull(strstr(err.text, "VIRTIO 1.0"));
	rig_end_world();
}
END_TEST

TEST_MAIN("vhost_user_hostile", at_the_first_greeting, when_queues_are_handed_over,
	  when_queues_are_taken_back, the_channel_is_noise, machines_that_cannot_have_one)
