/* Dirty tracking: what is found, by whom, and that nothing written is missed; with a guest on real KVM too.
 */
#include "base/layout.h"
#include "harness.h"
#include "host/kvm.h"
#include "host/vm.h"
#include "memory/dirty.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = DIRTY_PAGE_BYTES };
#define RAM (4 * MIB)

struct rig {
	struct guest_memory *memory;
	struct dirty_tracker *tracker;
	uint64_t bitmap[RAM / PAGE / 64];
	struct err err;
};

static struct guest_memory *new_memory(uint64_t size)
{
	struct guest_memory *memory = NULL;
	struct err err = ERR_INIT;
	const struct memory_config config = {.size_bytes = size};
	ck_assert_msg(guest_memory_create(&config, &memory, &err) == 0, "%s", err.text);
	return memory;
}

static struct dirty_tracker *new_tracker(struct guest_memory *memory)
{
	struct dirty_tracker *tracker = NULL;
	struct err err = ERR_INIT;
	ck_assert_msg(dirty_tracker_create(memory, &tracker, &err) == 0, "%s", err.text);
	return tracker;
}

static void rig_init(struct rig *rig)
{
	*rig = (struct rig){.memory = new_memory(RAM), .err = ERR_INIT};
	rig->tracker = new_tracker(rig->memory);
}

static void rig_finish(struct rig *rig)
{
	dirty_tracker_destroy(rig->tracker);
	guest_memory_destroy(rig->memory);
}

static uint64_t harvest(struct dirty_tracker *tracker, uint64_t *bitmap)
{
	uint64_t pages = 0;
	ck_assert_int_eq(dirty_tracker_harvest(tracker, bitmap, &pages), 0);
	return pages;
}

static bool has(const uint64_t *bitmap, uint64_t page)
{
	return bitmap[page / 64] >> page % 64 & 1;
}

static void write_at(struct guest_memory *memory, uint64_t gpa, uint64_t len)
{
	static const uint8_t bytes[4 * PAGE];
	ck_assert_int_eq(guest_memory_write(memory, gpa, bytes, len), 0);
}

START_TEST(writes_are_found_once)
{
	struct rig rig;
	rig_init(&rig);
	ck_assert_uint_eq(harvest(rig.tracker, rig.bitmap), 0);
	write_at(rig.memory, 3 * PAGE + 4090, 10); /* two pages */
	write_at(rig.memory, 100 * PAGE, 1);
	write_at(rig.memory, RAM - 1, 1);
	write_at(rig.memory, 7 * PAGE, 0); /* none */
	ck_assert_uint_eq(harvest(rig.tracker, rig.bitmap), 4);
	ck_assert(has(rig.bitmap, 3) && has(rig.bitmap, 4) && has(rig.bitmap, 100));
	ck_assert(has(rig.bitmap, RAM / PAGE - 1) && !has(rig.bitmap, 5) && !has(rig.bitmap, 7));
	write_at(rig.memory, 9 * PAGE, 1);
	ck_assert_uint_eq(harvest(rig.tracker, rig.bitmap), 1);
	ck_assert(has(rig.bitmap, 9) && has(rig.bitmap, 3)); /* what the caller had stays */
	rig_finish(&rig);
}
END_TEST

START_TEST(each_tracker_sees_all_of_its_time)
{
	struct rig rig;
	rig_init(&rig);
	write_at(rig.memory, 1 * PAGE, 1);
	struct dirty_tracker *second = new_tracker(rig.memory);
	uint64_t other[RAM / PAGE / 64] = {0};
	write_at(rig.memory, 2 * PAGE, 1);
	ck_assert_uint_eq(harvest(second, other), 1);
	ck_assert(has(other, 2) && !has(other, 1));
	ck_assert_uint_eq(harvest(rig.tracker, rig.bitmap), 2);
	dirty_tracker_destroy(second);
	write_at(rig.memory, 3 * PAGE, 1);
	ck_assert_uint_eq(harvest(rig.tracker, rig.bitmap), 1);
	rig_finish(&rig);
}
END_TEST

START_TEST(a_new_tracker_knows_nothing_of_before)
{
	struct rig rig;
	rig_init(&rig);
	write_at(rig.memory, 1 * PAGE, 1);
	dirty_tracker_destroy(rig.tracker);
	write_at(rig.memory, 2 * PAGE, 1);
	rig.tracker = new_tracker(rig.memory);
	ck_assert_uint_eq(harvest(rig.tracker, rig.bitmap), 0);
	rig_finish(&rig);
}
END_TEST

START_TEST(trackers_are_counted)
{
	struct rig rig;
	rig_init(&rig);
	struct dirty_tracker *more[DIRTY_TRACKERS_MAX] = {NULL};
	for (int i = 1; i < DIRTY_TRACKERS_MAX; i++)
		more[i] = new_tracker(rig.memory);
	ck_assert_int_eq(dirty_tracker_create(rig.memory, &more[0], &rig.err), -EBUSY);
	for (int i = 0; i < DIRTY_TRACKERS_MAX; i++)
		dirty_tracker_destroy(more[i]);
	rig_finish(&rig);
}
END_TEST

START_TEST(marks_outside_ram_are_nothing)
{
	struct rig rig;
	rig_init(&rig);
	static uint8_t device[PAGE];
	uint64_t gpa;
	ck_assert_int_eq(guest_memory_add(rig.memory, device, PAGE, &gpa, &rig.err), 0);
	write_at(rig.memory, gpa, 8);
	uint8_t *ram = guest_memory_at(rig.memory, 0, RAM);
	guest_memory_mark(rig.memory, ram - 1, 1);
	guest_memory_mark(rig.memory, ram + RAM, 1);
	guest_memory_mark(rig.memory, ram + 1, RAM);
	guest_memory_mark(rig.memory, ram + 1, UINT64_MAX);
	ck_assert_uint_eq(harvest(rig.tracker, rig.bitmap), 0);
	rig_finish(&rig);
}
END_TEST

START_TEST(discarded_pages_are_another_content)
{
	struct rig rig;
	rig_init(&rig);
	uint8_t *at = guest_memory_at(rig.memory, 16 * PAGE, 4 * PAGE);
	ck_assert_int_eq(guest_memory_discard(rig.memory, at + 1, 3 * PAGE), 0);
	ck_assert_uint_eq(harvest(rig.tracker, rig.bitmap), 2);
	ck_assert(has(rig.bitmap, 17) && has(rig.bitmap, 18));
	rig_finish(&rig);
}
END_TEST

START_TEST(regions_share_one_bitmap)
{
	struct guest_memory *memory = new_memory(4 * GIB);
	struct dirty_tracker *tracker = new_tracker(memory);
	uint64_t *bitmap = calloc(dirty_bitmap_words(memory), sizeof(*bitmap));
	ck_assert_uint_eq(dirty_page_count(memory), 4 * GIB / PAGE);
	write_at(memory, LAYOUT_HIGH_RAM_GPA + PAGE, 1);
	ck_assert_uint_eq(harvest(tracker, bitmap), 1);
	ck_assert(has(bitmap, LAYOUT_PCI_HOLE_GPA / PAGE + 1));
	free(bitmap);
	dirty_tracker_destroy(tracker);
	guest_memory_destroy(memory);
}
END_TEST

/* ---- a writer that does not stop: copy what is harvested, and in the end the copy is the memory ---- */

struct writer_thread {
	struct guest_memory *memory;
	_Atomic bool stop;
};

static void *keep_writing(void *argument)
{
	struct writer_thread *writer = argument;
	uint64_t value = 1;
	for (uint32_t seed = 1; !atomic_load(&writer->stop); value++) {
		seed = seed * 1664525U + 1013904223U;
		uint64_t gpa = (seed >> 8) % (RAM / 8) * 8;
		if (guest_memory_write(writer->memory, gpa, &value, sizeof(value)) < 0)
			abort();
	}
	return NULL;
}

static void copy_dirty(struct guest_memory *memory, uint64_t *bitmap, uint8_t *copy)
{
	for (uint64_t page = 0; page < RAM / PAGE; page++)
		if (has(bitmap, page))
			memcpy(copy + page * PAGE, guest_memory_at(memory, page * PAGE, PAGE), PAGE);
	memset(bitmap, 0, RAM / PAGE / 8);
}

START_TEST(a_copy_by_harvests_is_the_memory)
{
	for (int round = 0; round < 20; round++) {
		struct writer_thread writer = {.memory = new_memory(RAM)};
		uint64_t bitmap[RAM / PAGE / 64];
		uint8_t *copy = calloc(1, RAM);
		pthread_t thread;
		ck_assert_int_eq(pthread_create(&thread, NULL, keep_writing, &writer), 0);
		struct dirty_tracker *tracker = new_tracker(writer.memory);
		memset(bitmap, 0xff, sizeof(bitmap));
		for (int i = 0; i < 10; i++) {
			copy_dirty(writer.memory, bitmap, copy);
			(void)harvest(tracker, bitmap);
		}
		atomic_store(&writer.stop, true);
		pthread_join(thread, NULL);
		(void)harvest(tracker, bitmap);
		copy_dirty(writer.memory, bitmap, copy);
		ck_assert(memcmp(copy, guest_memory_at(writer.memory, 0, RAM), RAM) == 0);
		dirty_tracker_destroy(tracker);
		guest_memory_destroy(writer.memory);
		free(copy);
	}
}
END_TEST

/* ---- KVM ---- */

struct guest {
	struct rig rig;
	int kvm_fd, vm_fd, vcpu_fd;
	struct kvm_run *run;
};

enum { CODE_GPA = 0x1000 };

/* Real mode: write a byte at each of ds:0, 0x3000, 0x6000 (ds = 0x2000), then halt. */
static const uint8_t code[] = {0xc6, 0x06, 0x00, 0x00, 0x5a, /* movb $0x5a, 0x0000 */
			       0xc6, 0x06, 0x00, 0x30, 0x5a, /* movb $0x5a, 0x3000 */
			       0xc6, 0x06, 0x00, 0x60, 0x5a, /* movb $0x5a, 0x6000 */
			       0xe6, 0x10};		     /* out %al, $0x10: an exit */

static bool guest_init(struct guest *guest)
{
	struct err *err = &guest->rig.err;
	*guest = (struct guest){.rig = {.memory = new_memory(RAM), .err = ERR_INIT}};
	guest->kvm_fd = kvm_open(err);
	if (guest->kvm_fd < 0) {
		guest_memory_destroy(guest->rig.memory);
		return false;
	}
	guest->vm_fd = vm_create(guest->kvm_fd, 1, 0, err);
	ck_assert_msg(guest->vm_fd >= 0, "%s", err->text);
	ck_assert_int_eq(guest_memory_attach(guest->rig.memory, guest->vm_fd, err), 0);
	ck_assert_int_eq(guest_memory_write(guest->rig.memory, CODE_GPA, code, sizeof(code)), 0);
	guest->vcpu_fd = kvm_call_value(guest->vm_fd, KVM_CREATE_VCPU, 0);
	int bytes = kvm_call_value(guest->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	ck_assert_int_gt(bytes, 0);
	guest->run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, guest->vcpu_fd, 0);
	ck_assert(guest->run != MAP_FAILED);
	struct kvm_sregs sregs;
	ck_assert_int_eq(kvm_call(guest->vcpu_fd, KVM_GET_SREGS, &sregs), 0);
	sregs.cs.base = sregs.cs.selector = 0;
	sregs.ds.base = 0x20000;
	sregs.ds.selector = 0x2000;
	ck_assert_int_eq(kvm_call(guest->vcpu_fd, KVM_SET_SREGS, &sregs), 0);
	return true;
}

static void guest_finish(struct guest *guest)
{
	dirty_tracker_destroy(guest->rig.tracker);
	close(guest->vcpu_fd);
	close(guest->vm_fd);
	close(guest->kvm_fd);
	guest_memory_destroy(guest->rig.memory);
}

static void guest_run(struct guest *guest)
{
	struct kvm_regs regs = {.rip = CODE_GPA, .rflags = 2};
	ck_assert_int_eq(kvm_call(guest->vcpu_fd, KVM_SET_REGS, &regs), 0);
	ck_assert_int_eq(ioctl(guest->vcpu_fd, KVM_RUN, 0), 0);
	ck_assert_uint_eq(guest->run->exit_reason, KVM_EXIT_IO);
}

START_TEST(what_the_guest_writes_is_found)
{
	struct guest guest;
	if (!guest_init(&guest))
		return;	   /* no KVM here */
	guest_run(&guest); /* before: not of interest */
	struct rig *rig = &guest.rig;
	rig->tracker = new_tracker(rig->memory);
	ck_assert_uint_eq(harvest(rig->tracker, rig->bitmap), 0);
	for (int round = 0; round < 3; round++) {
		memset(rig->bitmap, 0, sizeof(rig->bitmap));
		guest_run(&guest);
		write_at(rig->memory, 0x30000, 1);
		uint64_t pages = harvest(rig->tracker, rig->bitmap);
		ck_assert(has(rig->bitmap, 0x20) && has(rig->bitmap, 0x23) && has(rig->bitmap, 0x26));
		ck_assert(has(rig->bitmap, 0x30));
		ck_assert_uint_eq(pages, 4);
		ck_assert_uint_eq(harvest(rig->tracker, rig->bitmap), 0);
	}
	struct dirty_tracker *second = new_tracker(rig->memory);
	guest_run(&guest);
	ck_assert_uint_eq(harvest(second, rig->bitmap), 3);
	ck_assert_uint_eq(harvest(rig->tracker, rig->bitmap), 3);
	dirty_tracker_destroy(second);
	guest_finish(&guest);
}
END_TEST

START_TEST(logging_ends_and_begins_again)
{
	struct guest guest;
	if (!guest_init(&guest))
		return;
	struct rig *rig = &guest.rig;
	for (int round = 0; round < 3; round++) {
		rig->tracker = new_tracker(rig->memory);
		guest_run(&guest);
		ck_assert_uint_eq(harvest(rig->tracker, rig->bitmap), 3);
		dirty_tracker_destroy(rig->tracker);
		guest_run(&guest);
	}
	rig->tracker = NULL;
	struct kvm_dirty_log log = {.slot = 0, .dirty_bitmap = rig->bitmap};
	ck_assert_int_lt(kvm_call(guest.vm_fd, KVM_GET_DIRTY_LOG, &log), 0); /* it is off */
	guest_finish(&guest);
}
END_TEST

TEST_MAIN("dirty", writes_are_found_once, each_tracker_sees_all_of_its_time,
	  a_new_tracker_knows_nothing_of_before, trackers_are_counted, marks_outside_ram_are_nothing,
	  discarded_pages_are_another_content, regions_share_one_bitmap, a_copy_by_harvests_is_the_memory,
	  what_the_guest_writes_is_found, logging_ends_and_begins_again)
