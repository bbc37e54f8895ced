/* What a shell in an initramfs cannot ask: who is the hypervisor, what does a port say. Linked statically,
 * runs at every level. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Needs struct sockaddr first. */
#include <linux/vm_sockets.h>

/* The signature a hypervisor puts into CPUID 0x40000000, KVM's being the one we expect below L0. */
static int print_hypervisor(void)
{
	unsigned int eax = 0, ebx = 0, ecx = 0, edx = 0;
	__cpuid(1, eax, ebx, ecx, edx);
	if (!(ecx & (1U << 31))) {
		puts("none");
		return 0;
	}
	char name[13] = {0};
	__cpuid(0x40000000, eax, ebx, ecx, edx);
	memcpy(name, &ebx, 4);
	memcpy(name + 4, &ecx, 4);
	memcpy(name + 8, &edx, 4);
	static const char *const known[][2] = {
		{"KVMKVMKVM", "KVM"},	    {"TCGTCGTCGTCG", "TCG"}, {"Microsoft Hv", "Hyper-V"},
		{"VMwareVMware", "VMware"}, {"XenVMMXenVMM", "Xen"},
	};
	const char *shown = name;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(name, known[i][0]) == 0)
			shown = known[i][1];
	puts(shown);
	return 0;
}

static void print_leaf(unsigned leaf, unsigned index, int indexed)
{
	unsigned eax, ebx, ecx, edx;
	__cpuid_count(leaf, index, eax, ebx, ecx, edx);
	if (!(eax | ebx | ecx | edx))
		return;
	printf(indexed ? "CPUID 0x%08x.%u" : "CPUID 0x%08x", leaf, index);
	printf(" 0x%08x 0x%08x 0x%08x 0x%08x\n", eax, ebx, ecx, edx);
}

/* Of a leaf with an index, as many as it says itself that there are, or as there can be. */
static void print_indexed(unsigned leaf)
{
	unsigned eax, ebx, ecx, edx;
	for (unsigned index = 0; index < (leaf == 0xd ? 64 : 16); index++) {
		__cpuid_count(leaf, index, eax, ebx, ecx, edx);
		if ((leaf == 4 || leaf == 0x8000001d) && !(eax & 0x1f))
			return;
		print_leaf(leaf, index, 1);
		if ((leaf == 0xb || leaf == 0x1f) && !(ecx & 0xff00))
			return;
	}
}

/* Every leaf that is not all zeros. Which have an index: SDM 2A, CPUID; APM 3, appendix E. */
static int print_cpuid(void)
{
	static const unsigned indexed[] = {4,	 7,    0xb,  0xd,  0xf,	 0x10, 0x12, 0x14,
					   0x17, 0x18, 0x1d, 0x1e, 0x1f, 0x20, 0x24, 0x8000001d};
	static const unsigned ranges[] = {0, 0x40000000, 0x40000100, 0x80000000, 0xc0000000};
	for (size_t r = 0; r < sizeof(ranges) / sizeof(ranges[0]); r++) {
		unsigned last, ebx, ecx, edx;
		__cpuid(ranges[r], last, ebx, ecx, edx);
		if (last < ranges[r] || last > ranges[r] + 0x100) /* there is no such range */
			continue;
		for (unsigned leaf = ranges[r]; leaf <= last; leaf++) {
			size_t i = 0, count = sizeof(indexed) / sizeof(indexed[0]);
			while (i < count && indexed[i] != leaf)
				i++;
			if (i < count)
				print_indexed(leaf);
			else
				print_leaf(leaf, 0, 0);
		}
	}
	return 0;
}

/* Those that can be read of the capability MSRs; needs the msr module. */
static int print_msrs(void)
{
	static const unsigned others[] = {0x10a, 0x345};
	int fd = open("/dev/cpu/0/msr", O_RDONLY);
	if (fd < 0) {
		perror("/dev/cpu/0/msr");
		return 1;
	}
	for (unsigned i = 0; i < 0x14 + sizeof(others) / sizeof(others[0]); i++) {
		unsigned index = i < 0x14 ? 0x480 + i : others[i - 0x14];
		uint64_t value;
		if (pread(fd, &value, 8, index) == 8)
			printf("MSR 0x%x 0x%016llx\n", index, (unsigned long long)value);
	}
	return 0;
}

static int write_port(const char *port, const char *value)
{
	if (iopl(3) != 0) {
		perror("iopl");
		return 1;
	}
	outb((unsigned char)strtoul(value, NULL, 0), (unsigned short)strtoul(port, NULL, 0));
	return 0;
}

static int fail(const char *what)
{
	perror(what);
	return 1;
}

/* One connection from the guest to port PORT of the host: what comes back, after we have said all of standard
 * input. */
static int vsock_talk(const char *port)
{
	struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST};
	char data[4096];
	ssize_t len;
	address.svm_port = (unsigned)strtoul(port, NULL, 0);
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return fail("vsock");
	while ((len = read(STDIN_FILENO, data, sizeof(data))) > 0)
		if (write(fd, data, (size_t)len) != len)
			return fail("write");
	(void)shutdown(fd, SHUT_WR);
	while ((len = read(fd, data, sizeof(data))) > 0)
		if (write(STDOUT_FILENO, data, (size_t)len) != len)
			return fail("write");
	return len < 0 ? fail("read") : 0;
}

/* The host's end of it: one connection to a UNIX socket, everything back as it came. */
static int unix_echo(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char data[4096];
	ssize_t len;
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listener, 1) < 0)
		return fail(path);
	int fd = accept(listener, NULL, NULL);
	while (fd >= 0 && (len = read(fd, data, sizeof(data))) > 0)
		if (write(fd, data, (size_t)len) != len)
			return fail("write");
	return fd < 0 ? fail("accept") : 0;
}

/* ---- a disk whose blocks tell which write they are of: its number, over and over ---- */

enum { BLOCK = 4096, BLOCK_WORDS = BLOCK / 8 };

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* The block that write number N goes to. */
static uint64_t place_of(uint64_t number, uint64_t blocks)
{
	return mix(number) % blocks;
}

/* The number that the block holds; UINT64_MAX: parts of several. */
static uint64_t number_in(const uint64_t *block)
{
	for (int i = 1; i < BLOCK_WORDS; i++)
		if (block[i] != block[0])
			return UINT64_MAX;
	return block[0];
}

static int read_block(int fd, uint64_t index, uint64_t *block)
{
	return pread(fd, block, BLOCK, (off_t)(index * BLOCK)) == BLOCK ? 0 : -1;
}

/* Without end: some blocks anywhere, then a flush, then the number of the last is told. */
static int disk_write(const char *path)
{
	uint64_t block[BLOCK_WORDS], number = 0;
	int fd = open(path, O_RDWR);
	off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	uint64_t blocks = end < 0 ? 0 : (uint64_t)end / BLOCK;
	if (blocks == 0)
		return fail(path);
	for (uint64_t i = 0; i < blocks; i++) {
		if (read_block(fd, i, block) < 0)
			return fail("read");
		uint64_t found = number_in(block);
		if (found != UINT64_MAX && found > number)
			number = found;
	}
	printf("writes from %llu\n", (unsigned long long)number + 1);
	for (;;) {
		for (uint64_t left = 1 + mix(number) % 48; left; left--) {
			number++;
			for (int i = 0; i < BLOCK_WORDS; i++)
				block[i] = number;
			if (pwrite(fd, block, BLOCK, (off_t)(place_of(number, blocks) * BLOCK)) != BLOCK)
				return fail("write");
		}
		if (fdatasync(fd) < 0)
			return fail("flush");
		printf("flushed %llu\n", (unsigned long long)number);
		fflush(stdout);
	}
}

/*
 * OLD is what the disk was before the writes from number FIRST on, LAST the last that was flushed: every
 * block holds what it was flushed with, or a later write that goes there, or, if it was not written, what it
 * had.
 */
static int disk_check(const char *old_path, const char *new_path, uint64_t first, uint64_t last)
{
	uint64_t was[BLOCK_WORDS], is[BLOCK_WORDS];
	int old = open(old_path, O_RDONLY), new = open(new_path, O_RDONLY);
	off_t end = new < 0 ? -1 : lseek(new, 0, SEEK_END);
	uint64_t blocks = end < 0 ? 0 : (uint64_t)end / BLOCK, flushed = 0, later = 0;
	uint64_t *newest = calloc(blocks + 1, sizeof(*newest));
	if (old < 0 || blocks == 0 || !newest)
		return fail(new_path);
	for (uint64_t number = first; number <= last; number++)
		newest[place_of(number, blocks)] = number;
	for (uint64_t i = 0; i < blocks; i++) {
		if (read_block(old, i, was) < 0 || read_block(new, i, is) < 0)
			return fail("read");
		uint64_t found = number_in(is), least = newest[i] ? newest[i] : first;
		int kept = newest[i] == 0 && memcmp(was, is, BLOCK) == 0;
		int written = found != UINT64_MAX && found >= least && place_of(found, blocks) == i;
		flushed += newest[i] != 0;
		later += written && found > last;
		if (kept || written)
			continue;
		printf("lost: block %llu holds %llu, and %llu was flushed\n", (unsigned long long)i,
		       (unsigned long long)found, (unsigned long long)newest[i]);
		return 1;
	}
	printf("%llu flushed blocks are there, and %llu later ones\n", (unsigned long long)flushed,
	       (unsigned long long)later);
	return 0;
}

/* ---- how long a read takes ---- */

static uint64_t now_ns(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int submit_read(aio_context_t context, struct iocb *iocb, uint64_t blocks, uint64_t number)
{
	struct iocb *list[] = {iocb};
	iocb->aio_offset = (int64_t)(place_of(number, blocks) * BLOCK);
	return syscall(SYS_io_submit, context, 1, list) == 1 ? 0 : -1;
}

/* COUNT reads of 4 KiB past the page cache, DEPTH at a time; nanoseconds for each. */
static int disk_read(const char *path, uint64_t count, unsigned depth)
{
	enum { DEPTH_MAX = 64 };
	static char data[DEPTH_MAX][BLOCK] __attribute__((aligned(BLOCK)));
	static struct iocb iocbs[DEPTH_MAX];
	struct io_event events[DEPTH_MAX];
	aio_context_t context = 0;
	int fd = open(path, O_RDONLY | O_DIRECT);
	off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	uint64_t blocks = end < 0 ? 0 : (uint64_t)end / BLOCK, sent = 0, done = 0;
	if (blocks == 0 || depth == 0 || depth > DEPTH_MAX || syscall(SYS_io_setup, DEPTH_MAX, &context) < 0)
		return fail(path);
	uint64_t start = now_ns();
	for (; sent < depth && sent < count; sent++) {
		iocbs[sent] = (struct iocb){.aio_lio_opcode = IOCB_CMD_PREAD,
					    .aio_fildes = (uint32_t)fd,
					    .aio_buf = (uint64_t)(uintptr_t)data[sent],
					    .aio_nbytes = BLOCK};
		if (submit_read(context, &iocbs[sent], blocks, sent) < 0)
			return fail("io_submit");
	}
	while (done < count) {
		long got = syscall(SYS_io_getevents, context, 1, DEPTH_MAX, events, NULL);
		if (got <= 0)
			return fail("io_getevents");
		done += (uint64_t)got;
		for (long i = 0; i < got; i++) {
			if (events[i].res != BLOCK)
				return fail("read");
			if (sent < count &&
			    submit_read(context, (struct iocb *)(uintptr_t)events[i].obj, blocks, sent++) < 0)
				return fail("io_submit");
		}
	}
	printf("%llu\n", (unsigned long long)((now_ns() - start) / count));
	return 0;
}

/* Writes to every page of so much memory in turn, so many MiB of pages a second (0: as fast as it can), for
 * ever. */
static int dirty(size_t mib, uint64_t rate)
{
	const size_t pages = mib << 8, per_turn = rate ? (size_t)(rate * 256 / 100) : pages;
	const struct timespec turn = {.tv_nsec = 10000000};
	uint8_t *memory = aligned_alloc(4096, mib << 20);
	if (!memory || !pages || !per_turn)
		return 1;
	for (uint64_t i = 0, value = 1;; value++) {
		for (size_t n = 0; n < per_turn; n++, i++)
			memcpy(memory + (i % pages) * 4096 + (i & 0xff8), &value, sizeof(value));
		if (rate)
			(void)nanosleep(&turn, NULL);
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "hypervisor") == 0)
		return print_hypervisor();
	if (argc == 2 && strcmp(argv[1], "cpuid") == 0)
		return print_cpuid();
	if (argc == 2 && strcmp(argv[1], "msrs") == 0)
		return print_msrs();
	if (argc == 4 && strcmp(argv[1], "outb") == 0)
		return write_port(argv[2], argv[3]);
	if (argc == 3 && strcmp(argv[1], "vsock-talk") == 0)
		return vsock_talk(argv[2]);
	if (argc == 3 && strcmp(argv[1], "unix-echo") == 0)
		return unix_echo(argv[2]);
	if (argc == 3 && strcmp(argv[1], "disk-write") == 0)
		return disk_write(argv[2]);
	if (argc == 6 && strcmp(argv[1], "disk-check") == 0)
		return disk_check(argv[2], argv[3], strtoull(argv[4], NULL, 0), strtoull(argv[5], NULL, 0));
	if (argc == 5 && strcmp(argv[1], "disk-read") == 0)
		return disk_read(argv[2], strtoull(argv[3], NULL, 0), (unsigned)strtoul(argv[4], NULL, 0));
	if (argc == 4 && strcmp(argv[1], "dirty") == 0)
		return dirty(strtoul(argv[2], NULL, 0), strtoull(argv[3], NULL, 0));
	fputs("probe hypervisor | cpuid | msrs | outb PORT VALUE | vsock-talk PORT | unix-echo PATH\n"
	      "probe disk-write PATH | disk-check OLD NEW FIRST LAST | disk-read PATH COUNT DEPTH\n"
	      "probe dirty MIB MIB_PER_SECOND\n",
	      stderr);
	return 2;
}
