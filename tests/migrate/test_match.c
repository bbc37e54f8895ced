/* What may be different on the other side and what may not, and what cannot move at all: the exact words. */
#include "../../src/migrate/config_match.h"
#include "../../src/migrate/guest_machine.h"
#include "harness.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DISK(more)                                                                                           \
	"{\"name\": \"m\", \"boot\": {\"kernel\": \"/bin/sh\"}, \"devices\": "                               \
	"[{\"type\": \"disk\", \"path\": \"/a.img\"" more "}]}"

static struct machine_config *parse(const char *text)
{
	struct machine_config *config = NULL;
	struct err err = ERR_INIT;
	int r = config_parse("test", text, strlen(text), NULL, 0, &config, &err);
	ck_assert_msg(r == 0, "%s: %s", text, err.text);
	return config;
}

static void check(const char *ours, const char *theirs, const char *why)
{
	struct machine_config *config = parse(ours);
	struct err err = ERR_INIT;
	int r = config_match(config, theirs, strlen(theirs), &err);
	ck_assert_int_eq(r, *why ? -EINVAL : 0);
	ck_assert_str_eq(err.text, why);
	config_free(config);
}

START_TEST(disks_must_be_alike)
{
	check(DISK(""), DISK(""), "");
	check(DISK(", \"cache\": \"writethrough\""), DISK(", \"direct\": true"), "");
	check(DISK(", \"format\": \"qcow2\""), DISK(""), "devices.0.format: \"qcow2\" here, \"raw\" there");
	check(DISK(", \"read_only\": true"), DISK(""), "devices.0.read_only: 1 here, 0 there");
	check(DISK(", \"block_size\": 4096"), DISK(""), "devices.0.block_size: 4096 here, 512 there");
	check(DISK(", \"serial\": \"x\""), DISK(""), "devices.0.serial: \"x\" here, \"\" there");
}
END_TEST

/* What would only come to light after the source has stopped. */
START_TEST(disks_must_be_there)
{
	struct machine_config config = {.device_count = 2};
	struct err err = ERR_INIT;
	config.devices[0].type = DEVICE_RNG;
	config.devices[1].type = DEVICE_DISK;
	config.devices[1].disk.path = "/nowhere/a.img";
	ck_assert_int_eq(config_check_disks(&config, &err), -ENOENT);
	ck_assert_str_eq(err.text, "devices.1: /nowhere/a.img: No such file or directory");
	config.devices[1].disk.path = "/dev/null";
	err = ERR_INIT;
	ck_assert_int_eq(config_check_disks(&config, &err), -EINVAL);
	ck_assert_str_eq(err.text, "devices.1: /dev/null is neither a file nor a block device");
	/* Nobody, not even root, writes to this one. */
	config.devices[1].disk.path = "/proc/version";
	err = ERR_INIT;
	if (access("/proc/version", W_OK) < 0)
		ck_assert_int_eq(config_check_disks(&config, &err), -EACCES);
	config.devices[1].disk.read_only = true;
	err = ERR_INIT;
	ck_assert_int_eq(config_check_disks(&config, &err), 0);
}
END_TEST

static void check_stays(enum device_type type, const char *why)
{
	struct err err = ERR_INIT;
	struct machine_config config = {.device_count = 2};
	config.devices[0].type = DEVICE_RNG;
	config.devices[1].type = type;
	ck_assert_int_eq(guest_machine_check(&config, &err), *why ? -ENOTSUP : 0);
	ck_assert_str_eq(err.text, why);
}

START_TEST(what_cannot_move)
{
	check_stays(DEVICE_DISK, "");
	check_stays(
		DEVICE_VHOST_USER,
		"devices.1: a vhost-user device cannot move: its back end writes to RAM without telling us, "
		"and what it knows of the guest stays with it");
	check_stays(
		DEVICE_PMEM,
		"devices.1: pmem cannot move: what the guest has written to it may lie in this host's memory "
		"only");
}
END_TEST

/* What a destination says of its disks may be anything. */
START_TEST(sizes_on_the_wire)
{
	uint8_t bytes[WIRE_DISKS_BYTES_MAX + 1] = {0};
	struct wire_disks disks = {.count = WIRE_DISKS_MAX}, back;
	struct err err = ERR_INIT;
	for (uint32_t i = 0; i < WIRE_DISKS_MAX; i++)
		disks.bytes[i] = UINT64_C(0x0102030405060708) * (i + 1);
	ck_assert_uint_eq(wire_encode_disks(bytes, &disks), WIRE_DISKS_BYTES_MAX);
	ck_assert_int_eq(wire_decode_disks(bytes, WIRE_DISKS_BYTES_MAX, &back, &err), 0);
	ck_assert_mem_eq(&back, &disks, sizeof(disks));
	for (size_t len = 0; len <= WIRE_DISKS_BYTES_MAX + 1; len++) {
		err = ERR_INIT;
		if (len != WIRE_DISKS_BYTES_MAX)
			ck_assert_int_eq(wire_decode_disks(bytes, len, &back, &err), -EPROTO);
	}
	bytes[0] = WIRE_DISKS_MAX + 1;
	err = ERR_INIT;
	ck_assert_int_eq(wire_decode_disks(bytes, sizeof(bytes), &back, &err), -EPROTO);
	ck_assert_str_eq(err.text, "ACCEPTED with 33 disks, where 0 to 32 are good");
	static const uint8_t golden[] = {1, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0};
	disks = (struct wire_disks){.count = 1, .bytes = {1 << 20}};
	ck_assert_uint_eq(wire_encode_disks(bytes, &disks), sizeof(golden));
	ck_assert_mem_eq(bytes, golden, sizeof(golden));
}
END_TEST

TEST_MAIN("match", disks_must_be_alike, disks_must_be_there, what_cannot_move, sizes_on_the_wire)
