/*
 * A vhost-user front end whose back end answers as the input says: right, wrong, twice, half, or with
 * nonsense. A byte chooses how the driver behaves meanwhile, the rest are the back end's answers. Rules: the
 * device is refused or it lives, resets end, and nothing of the back end's is left behind.
 */
#include "fuzz.h"

/* The rig is a test's; here what it asserts stops the program. */
#include <check.h>
#undef ck_assert_int_eq
#undef ck_assert_int_ge
#undef ck_assert_uint_eq
#undef ck_assert_msg
#define ck_assert_int_eq(a, b)	FUZZ_CHECK((a) == (b))
#define ck_assert_int_ge(a, b)	FUZZ_CHECK((a) >= (b))
#define ck_assert_uint_eq(a, b) FUZZ_CHECK((a) == (b))
#define ck_assert_msg(a, ...)	FUZZ_CHECK(a)

#include "../devices/vhost_user_rig.h"

static void drive(unsigned how)
{
	FUZZ_CHECK(driver_init(&rig.driver, &rig.world, VIRTIO_ID_BLOCK) == 0);
	for (unsigned i = 0; i < 1 + (how & 3); i++) {
		(void)driver_start(&rig.driver,
				   &(struct driver_options){.features = how & 4 ? UINT64_MAX : 0});
		if (how & 8)
			submit(0, 1, false, how);
		if (how & 16)
			(void)usleep(1000);
		FUZZ_CHECK(driver_reset(&rig.driver) == 0);
	}
	driver_finish(&rig.driver);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT;
	if (size == 0)
		return 0;
	rig_world(data[0] & 32 ? PROTOCOL_ALL : PROTOCOL_CONFIG | PROTOCOL_TRACKED);
	rig.peer.script = data + 1;
	rig.peer.script_len = size - 1;
	peer_start(&rig.peer);
	int r = rig_create(&err);
	FUZZ_CHECK((r == 0) == !err.text[0]);
	if (r == 0) {
		drive(data[0]);
		vhost_user_class.destroy(rig.device);
	}
	rig_end_world();
	return 0;
}
