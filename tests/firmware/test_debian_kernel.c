/* Debian's own kernels, from /boot or the lab's cache: synthetic images prove less than one that people boot.
 */
#include "base/cleanup.h"
#include "rig.h"

#include <asm/bootparam.h>
#include <glob.h>

static glob_t kernels;

START_TEST(they_load_and_leave_room_for_an_initrd)
{
	static uint8_t initrd[5 * MIB];
	for (size_t i = 0; i < kernels.gl_pathc; i++) {
		struct rig rig;
		rig_open(&rig, 512 * MIB);
		rig.config.boot.kernel = kernels.gl_pathv[i];
		rig.config.boot.initrd = rig_file(&rig, initrd, sizeof(initrd));
		rig.config.boot.cmdline = "console=ttyS0";
		int r = firmware_load(&rig.config, rig.memory, &rig.boot, &rig.err);
		ck_assert_msg(r == 0, "%s", rig.err.text);
		ck_assert_uint_eq(rig.boot.rip,
				  0x1000200); /* CONFIG_PHYSICAL_START of every Debian amd64 kernel */
		/* The 64-bit entry begins with cld; cli (arch/x86/boot/compressed/head_64.S). */
		ck_assert_mem_eq(rig_ram(&rig, rig.boot.rip, 2), "\xfc\xfa", 2);
		const struct boot_params *params = rig_ram(&rig, rig.boot.rsi, sizeof(*params));
		ck_assert_uint_eq(params->hdr.ramdisk_image, 507 * MIB);
		ck_assert_uint_eq(params->hdr.type_of_loader, 0xff);
		rig_close(&rig);
	}
}
END_TEST

int main(void)
{
	glob("/boot/vmlinuz-*-amd64", 0, NULL, &kernels);
	char pattern[4096];
	const char *cache = getenv("AERIE_CACHE");
	const char *home = getenv("HOME");
	if (cache || home) {
		snprintf(pattern, sizeof(pattern), "%s%s/kernels/*/vmlinuz", cache ? cache : home,
			 cache ? "" : "/.cache/aerie");
		glob(pattern, GLOB_APPEND, NULL, &kernels);
	}
	if (kernels.gl_pathc == 0) {
		puts("no Debian kernel in /boot or in the lab's cache");
		return TEST_SKIP;
	}
	const TTest *const tests[] = {they_load_and_leave_room_for_an_initrd};
	int r = harness_run("debian kernel", tests, ARRAY_LEN(tests));
	globfree(&kernels);
	return r;
}
