/* qcow2 against qemu-img: what one writes the other reads, with every kind of image. */
#include "qcow2_rig.h"

enum { DISK_BYTES = 4 << 20, REQUESTS = 200 };

static struct block *open_file(struct loop *loop, const char *name, bool read_only, bool direct)
{
	static char path[512];
	(void)snprintf(path, sizeof(path), "%s/%s", test_folder(), name);
	const struct disk_config config = {.path = path,
					   .format = DISK_QCOW2,
					   .read_only = read_only,
					   .direct = direct,
					   .discard = true,
					   .block_size = 512};
	struct block *block = NULL;
	struct err err = ERR_INIT;
	ck_assert_msg(block_open(&config, loop, &block, &err) == 0, "%s", err.text);
	return block;
}

struct shape {
	const char *options; /* of qemu-img create -o */
	uint64_t cluster_bytes;
	const char *backing; /* format, or NULL */
	const char *convert; /* the image is made of a full disk, with these flags of qemu-img convert */
};

static const struct shape shapes[] = {
	{"cluster_size=65536", 65536, NULL, NULL},
	{"cluster_size=512", 512, NULL, NULL},
	{"cluster_size=4096,refcount_bits=1", 4096, NULL, NULL},
	{"cluster_size=2M", 2 << 20, NULL, NULL},
	{"cluster_size=65536,compat=0.10", 65536, NULL, NULL},
	{"cluster_size=4096,compat=0.10", 4096, "raw", NULL},
	{"cluster_size=65536", 65536, "raw", NULL},
	{"cluster_size=16384", 16384, "qcow2", NULL},
	{"cluster_size=512,refcount_bits=64", 512, "raw", NULL},
	{"cluster_size=32768,preallocation=metadata", 32768, NULL, NULL},
	{"cluster_size=65536,lazy_refcounts=on", 65536, NULL, NULL},
	{"cluster_size=65536", 65536, NULL, "-c"},
	{"cluster_size=4096", 4096, NULL, "-c"},
	{"cluster_size=512,compat=0.10", 512, NULL, "-c"},
	{"cluster_size=2M", 2 << 20, NULL, "-c"},
	{"cluster_size=65536,compression_type=zstd", 65536, NULL, "-c"},
	{"cluster_size=4096,compression_type=zstd", 4096, NULL, "-c"},
	{"cluster_size=2M,compression_type=zstd", 2 << 20, NULL, "-c"},
	{"cluster_size=65536,refcount_bits=8", 65536, NULL, ""},
};

static void make_image(const struct shape *shape, struct guest *guest)
{
	const char *folder = test_folder();
	char backing[256] = "";
	/* Shorter than the disk: zeros follow. */
	uint64_t sectors = shape->convert ? guest->sectors : guest->sectors * 3 / 4 + 3;
	if (shape->backing || shape->convert) {
		guest_starts_with(guest, sectors, 1);
		write_raw(guest, "base.raw", false);
		ck_assert_int_eq(shell("cd '%s' && truncate -s %llu base.raw", folder,
				       (unsigned long long)sectors * SECTOR),
				 0);
	}
	if (shape->convert) {
		ck_assert_int_eq(shell("cd '%s' && qemu-img convert -t unsafe -f raw -O qcow2 %s -o %s "
				       "base.raw disk.qcow2",
				       folder, shape->convert, shape->options),
				 0);
		return;
	}
	if (shape->backing) {
		ck_assert_int_eq(shell("cd '%s' && qemu-img convert -t unsafe -f raw -O %s base.raw base",
				       folder, shape->backing),
				 0);
		(void)snprintf(backing, sizeof(backing), "-b base -F %s", shape->backing);
	}
	ck_assert_int_eq(shell("cd '%s' && qemu-img create -q -f qcow2 -o %s %s disk.qcow2 %d", folder,
			       shape->options, backing, DISK_BYTES),
			 0);
}

static void random_writes_on(const struct shape *shape, uint64_t seed, bool direct)
{
	struct guest guest;
	const char *folder = test_folder();
	guest_init(&guest, DISK_BYTES, seed);
	guest.cluster_sectors = shape->cluster_bytes / SECTOR;
	guest.flush_every = guest.fua_every = 100; /* the host's disk is slow */
	make_image(shape, &guest);
	guest.block = open_file(guest.loop, "disk.qcow2", true, false);
	guest_read_all(&guest);
	block_close(guest.block);
	for (int round = 0; round < 2; round++) {
		guest.block = open_file(guest.loop, "disk.qcow2", false, direct);
		guest_run(&guest, REQUESTS);
		ck_assert_uint_eq(guest.errors, 0);
		guest_read_all(&guest);
		block_close(guest.block);
		ck_assert_msg(check_image("disk.qcow2") == 0, "%s %s: qemu-img check", shape->options,
			      shape->backing ? shape->backing : "");
		write_raw(&guest, "shadow.raw", false);
		ck_assert_int_eq(
			shell("cd '%s' && qemu-img compare -q -f qcow2 -F raw disk.qcow2 shadow.raw", folder),
			0);
	}
	guest_finish(&guest);
}

START_TEST(random_writes_leave_what_qemu_img_reads)
{
	uint64_t seed = number_from_env("QCOW2_SEED", 1);
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
		random_writes_on(&shapes[i], seed + i, false);
}
END_TEST

/* O_DIRECT, where the file system of TMPDIR does it in blocks of 512 bytes. */
START_TEST(direct_writes_leave_the_same)
{
	static const struct shape direct_shapes[] = {
		{"cluster_size=65536", 65536, "raw", NULL},
		{"cluster_size=4096", 4096, "qcow2", NULL},
		{"cluster_size=65536", 65536, NULL, "-c"},
		{"cluster_size=65536,compression_type=zstd", 65536, NULL, "-c"},
	};
	char path[512];
	(void)snprintf(path, sizeof(path), "%s/probe", test_folder());
	ck_assert_int_eq(shell("truncate -s 1M '%s'", path), 0);
	const struct block_raw_spec probe = {.path = path, .direct = true, .block_size = 512};
	struct loop *loop = NULL;
	struct block *block = NULL;
	struct err err = ERR_INIT;
	ck_assert_int_eq(loop_create(16, &loop, &err), 0);
	bool possible = block_raw_open(&probe, loop, &block, &err) == 0;
	block_close(block);
	loop_destroy(loop);
	for (size_t i = 0; possible && i < ARRAY_LEN(direct_shapes); i++)
		random_writes_on(&direct_shapes[i], number_from_env("QCOW2_SEED", 1) + 100 + i, true);
	if (!possible)
		(void)printf("no O_DIRECT here: %s\n", err.text);
}
END_TEST

QCOW2_TEST_MAIN("qcow2_images", random_writes_leave_what_qemu_img_reads, direct_writes_leave_the_same)
