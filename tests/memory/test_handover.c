/* RAM that goes from one process to another: both are this one, with a mapping each. */
#include "../../src/memory/impl.h"
#include "base/cleanup.h"
#include "base/layout.h"
#include "harness.h"
#include "host/kvm.h"
#include "host/vm.h"
#include "memory/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RAM (4 * MIB)

/* What becomes of the next pwrites, in place of libc's: so many bytes, or -errno; 0 ends them. */
static const int *pwrite_fates = (const int[]){0};

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
	if (*pwrite_fates < 0) {
		errno = -*pwrite_fates++;
		return -1;
	}
	if (*pwrite_fates)
		len = (size_t)*pwrite_fates++;
	return syscall(SYS_pwrite64, fd, data, len, offset);
}

static struct guest_memory *new_memory(uint64_t size, bool shared)
{
	struct guest_memory *memory = NULL;
	struct err err = ERR_INIT;
	const struct memory_config config = {.size_bytes = size, .shared = shared};
	ck_assert_msg(guest_memory_create(&config, &memory, &err) == 0, "%s", err.text);
	return memory;
}

static int fd_of(const struct guest_memory *memory)
{
	const struct guest_region *regions;
	uint64_t offset;
	(void)guest_memory_regions(memory, &regions);
	return fcntl(guest_memory_fd(memory, regions, &offset), F_DUPFD_CLOEXEC, 3);
}

static void pass(struct guest_memory *giver, struct guest_memory *taker)
{
	struct err err = ERR_INIT;
	ck_assert_msg(handover_accept(taker, fd_of(giver), &err) == 0, "%s", err.text);
	ck_assert_msg(handover_try(taker, &err) == 0, "%s", err.text);
}

static uint8_t *at(struct guest_memory *memory, uint64_t gpa)
{
	return guest_memory_at(memory, gpa, 1);
}

/* Every byte of it; one assertion for each would take seconds. */
static void all_are(struct guest_memory *memory, uint8_t byte)
{
	const uint8_t *ram = at(memory, 0);
	ck_assert(ram[0] == byte && memcmp(ram, ram + 1, RAM - 1) == 0);
}

START_TEST(on_trial_the_givers_ram_stays_as_it_is)
{
	struct guest_memory *giver = new_memory(RAM, true), *taker = new_memory(RAM, true);
	struct err err = ERR_INIT;
	memset(at(giver, 0), 0x11, RAM);
	memset(at(taker, 0), 0xee, RAM);
	uint8_t *host = at(taker, 0);
	pass(giver, taker);
	ck_assert_ptr_eq(at(taker, 0), host);
	all_are(taker, 0x11);
	ck_assert_int_eq(guest_memory_write(taker, 5000, "loaded", 6), 0);
	ck_assert_int_eq(guest_memory_write(taker, RAM - 6, "at end", 6), 0);
	all_are(giver, 0x11);

	ck_assert_msg(handover_keep(taker, &err) == 0, "%s", err.text);
	ck_assert_ptr_eq(at(taker, 0), host);
	ck_assert(memcmp(at(giver, 5000), "loaded", 6) == 0 && memcmp(at(giver, RAM - 6), "at end", 6) == 0);
	ck_assert(*at(giver, 4999) == 0x11 && *at(giver, 5006) == 0x11);
	*at(taker, 77) = 0x22; /* one and the same now */
	ck_assert_uint_eq(*at(giver, 77), 0x22);
	guest_memory_destroy(giver);
	ck_assert_uint_eq(*at(taker, 77), 0x22);

	handover_settle(taker);

	/* And on to the next one. */
	struct guest_memory *next = new_memory(RAM, true);
	pass(taker, next);
	ck_assert_int_eq(handover_keep(next, &err), 0);
	guest_memory_destroy(taker);
	ck_assert(*at(next, 77) == 0x22 && memcmp(at(next, 5000), "loaded", 6) == 0);
	guest_memory_destroy(next);
}
END_TEST

/* The giver has let go of the guest: what passes must not be its end. */
START_TEST(a_shortage_that_passes_loses_nothing)
{
	struct guest_memory *giver = new_memory(RAM, true), *taker = new_memory(RAM, true);
	struct err err = ERR_INIT;
	memset(at(giver, 0), 0x11, RAM);
	pass(giver, taker);
	for (uint64_t gpa = 5; gpa < RAM; gpa += 4096)
		ck_assert_int_eq(guest_memory_write(taker, gpa, "loaded", 6), 0);
	pwrite_fates = (const int[]){-EINTR, 7, 4089, -ENOMEM, 2048, -EINTR, -EIO, 0};
	ck_assert_msg(handover_keep(taker, &err) == 0, "%s", err.text);
	ck_assert_int_eq(*pwrite_fates, 0);
	for (uint64_t gpa = 5; gpa < RAM; gpa += 4096)
		ck_assert(memcmp(at(giver, gpa), "loaded", 6) == 0 && *at(giver, gpa + 6) == 0x11);
	guest_memory_destroy(giver);
	guest_memory_destroy(taker);
}
END_TEST

START_TEST(a_shortage_that_stays_is_named)
{
	struct guest_memory *giver = new_memory(RAM, true), *taker = new_memory(RAM, true);
	struct err err = ERR_INIT;
	pass(giver, taker);
	ck_assert_int_eq(guest_memory_write(taker, 4096, "loaded", 6), 0);
	pwrite_fates = (const int[]){-ENOMEM, -ENOMEM, -ENOMEM, 0};
	ck_assert_int_eq(handover_keep(taker, &err), -ENOMEM);
	ck_assert_str_eq(err.text, "RAM at 0x1000: Cannot allocate memory");
	guest_memory_destroy(giver);
	guest_memory_destroy(taker);
}
END_TEST

START_TEST(a_trial_that_ends_leaves_no_trace)
{
	struct guest_memory *giver = new_memory(RAM, true), *taker = new_memory(RAM, true);
	struct err err = ERR_INIT;
	memset(at(giver, 0), 0x11, RAM);
	int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm_fd = -1;
	if (kvm_fd >= 0)
		vm_fd = vm_create(kvm_fd, 1, 0, &err);
	err = ERR_INIT;
	ck_assert_int_eq(guest_memory_attach(taker, vm_fd, &err), 0);
	pass(giver, taker);
	ck_assert_int_eq(guest_memory_write(taker, 0, "x", 1), 0);
	(void)close_fd(vm_fd); /* as machine_destroy does it */
	guest_memory_destroy(taker);
	(void)close_fd(kvm_fd);
	all_are(giver, 0x11);
	guest_memory_destroy(giver);
}
END_TEST

/* Nobody should write between the two; who did has not brought an old page along. */
START_TEST(what_is_written_too_early_is_forgotten)
{
	struct guest_memory *giver = new_memory(RAM, true), *taker = new_memory(RAM, true);
	struct err err = ERR_INIT;
	memset(at(giver, 0), 0x11, RAM);
	ck_assert_int_eq(handover_accept(taker, fd_of(giver), &err), 0);
	ck_assert_uint_eq(*at(taker, 5000), 0x11);
	ck_assert_int_eq(guest_memory_write(taker, 4096, "early", 5), 0);
	memset(at(giver, 0), 0x22, 8192); /* the guest runs on over there */
	ck_assert_int_eq(handover_try(taker, &err), 0);
	ck_assert_uint_eq(*at(taker, 0), 0x22);
	ck_assert_uint_eq(*at(taker, 4096), 0x22);
	ck_assert_int_eq(handover_keep(taker, &err), 0);
	ck_assert(*at(giver, 4096) == 0x22 && *at(giver, 8191) == 0x22 && *at(giver, 8192) == 0x11);
	guest_memory_destroy(giver);
	guest_memory_destroy(taker);
}
END_TEST

START_TEST(who_has_left_touches_nothing)
{
	struct guest_memory *giver = new_memory(RAM, true), *taker = new_memory(RAM, true);
	struct err err = ERR_INIT;
	strcpy((char *)at(giver, 100), "mine");
	pass(giver, taker);
	ck_assert_int_eq(handover_keep(taker, &err), 0);
	ck_assert_int_eq(handover_leave(giver, &err), 0);
	ck_assert(handover_left(giver) && *at(giver, 100) == 0);
	memset(at(giver, 0), 0xff, RAM);
	ck_assert_str_eq((char *)at(taker, 100), "mine");
	strcpy((char *)at(taker, 100), "ours");
	ck_assert_int_eq(handover_join(giver, &err), 0);
	ck_assert(!handover_left(giver) && strcmp((char *)at(giver, 100), "ours") == 0);
	ck_assert_int_eq(handover_join(giver, &err), 0); /* nothing */
	guest_memory_destroy(giver);
	guest_memory_destroy(taker);
}
END_TEST

static void refuses(struct guest_memory *memory, int fd, const char *why)
{
	struct err err = ERR_INIT;
	ck_assert_int_ge(fd, 0);
	ck_assert_int_lt(handover_accept(memory, fd, &err), 0);
	ck_assert_msg(strstr(err.text, why), "%s", err.text);
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1); /* it is not kept */
	err = ERR_INIT;
	ck_assert_int_eq(handover_try(memory, &err), -EINVAL);
}

static int memfd(uint64_t size, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	ck_assert(seals == 0 || fcntl(fd, F_ADD_SEALS, seals) == 0);
	return fd;
}

START_TEST(what_is_no_ram_is_refused)
{
	struct guest_memory *memory = new_memory(RAM, true), *own = new_memory(RAM, false),
			    *small = new_memory(RAM / 2, true);
	const int good = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	struct err err = ERR_INIT;
	refuses(memory, open("/dev/zero", O_RDWR), "is no memfd");
	refuses(memory, open("docs/migration.md", O_RDONLY), "is no memfd");
	refuses(memory, memfd(RAM, 0), "has seals 0,");
	refuses(memory, memfd(RAM, F_SEAL_GROW), "has seals 0x4, where 0x7 are good");
	refuses(memory, memfd(RAM, good | F_SEAL_FUTURE_WRITE), "has seals 0x17");
	refuses(memory, memfd(RAM + 4096, good),
		"4198400 bytes in pages of 4096 were handed over for RAM of 4194304");
	refuses(memory, fd_of(small), "2097152 bytes");
	refuses(own, memfd(RAM, good), "memory.shared is false");
	ck_assert_int_eq(handover_check(own, &err), -ENOTSUP);
	err = ERR_INIT;
	ck_assert_int_eq(handover_leave(own, &err), -EINVAL);
	ck_assert_str_eq(err.text, "RAM is nobody else's");
	err = ERR_INIT;
	ck_assert_int_eq(handover_check(memory, &err), 0);
	ck_assert_int_eq(handover_keep(memory, &err), -EINVAL);
	err = ERR_INIT;
	ck_assert_int_eq(handover_accept(memory, memfd(RAM, good), &err), 0);
	ck_assert_int_eq(handover_accept(memory, memfd(RAM, good), &err), -EBUSY); /* there is one RAM */
	guest_memory_destroy(memory);
	guest_memory_destroy(own);
	guest_memory_destroy(small);
}
END_TEST

/* Of neither side, whoever gives and whoever takes; as hosts seldom have huge pages to spare, it only says
 * so. */
START_TEST(huge_pages_stay)
{
	static const char why[] =
		"RAM of huge pages (memory.hugepages) cannot be handed over: the host would "
		"need twice of them";
	struct guest_memory *memory = new_memory(RAM, true);
	struct err err = ERR_INIT;
	memset(at(memory, 0), 0x11, RAM);
	memory->page_bytes = 2 * MIB;
	ck_assert_int_eq(handover_check(memory, &err), -ENOTSUP);
	ck_assert_str_eq(err.text, why);
	refuses(memory, memfd(RAM, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), why);
	memory->page_bytes = 4096;
	all_are(memory, 0x11);
	err = ERR_INIT;
	ck_assert_int_eq(handover_check(memory, &err), 0);
	guest_memory_destroy(memory);
}
END_TEST

/* Its size is nobody's to change, so that no access of ours or of KVM's meets a hole where RAM was. */
START_TEST(ram_keeps_its_size)
{
	struct guest_memory *memory = new_memory(RAM, true);
	_cleanup_close_ int fd = fd_of(memory);
	ck_assert(ftruncate(fd, 0) < 0 && errno == EPERM);
	ck_assert(ftruncate(fd, 2 * RAM) < 0 && errno == EPERM);
	ck_assert(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) < 0 && errno == EPERM);
	/* A balloon may still give pages back. */
	memset(at(memory, 0), 1, RAM);
	ck_assert_int_eq(guest_memory_discard(memory, at(memory, 0), 8192), 0);
	ck_assert(*at(memory, 8191) == 0 && *at(memory, 8192) == 1);
	guest_memory_destroy(memory);
}
END_TEST

TEST_MAIN("handover", on_trial_the_givers_ram_stays_as_it_is, a_shortage_that_passes_loses_nothing,
	  a_shortage_that_stays_is_named, a_trial_that_ends_leaves_no_trace,
	  what_is_written_too_early_is_forgotten, who_has_left_touches_nothing, what_is_no_ram_is_refused,
	  huge_pages_stay, ram_keeps_its_size)
