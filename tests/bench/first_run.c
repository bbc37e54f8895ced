/*
 * Loaded into a VMM by LD_PRELOAD: tells on fd AERIE_BENCH_FD when KVM_RUN is first called, that is, when the
 * guest's first instruction is about to run, as CLOCK_MONOTONIC in nanoseconds. The same for every VMM that
 * uses libc's ioctl.
 */
#include <dlfcn.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int ioctl(int fd, unsigned long request, ...);

static void tell(void)
{
	const char *fd = getenv("AERIE_BENCH_FD");
	struct timespec now;
	char text[32];
	if (!fd)
		return;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	int len = snprintf(text, sizeof(text), "%llu\n",
			   (unsigned long long)now.tv_sec * 1000000000ULL + (unsigned long long)now.tv_nsec);
	(void)!write(atoi(fd), text, (size_t)len);
}

int ioctl(int fd, unsigned long request, ...)
{
	static atomic_int told;
	static int (*real)(int, unsigned long, void *);
	va_list args;
	va_start(args, request);
	void *arg = va_arg(args, void *);
	va_end(args);
	if (!real)
		real = (int (*)(int, unsigned long, void *))dlsym(RTLD_NEXT, "ioctl");
	if (request == KVM_RUN && !atomic_exchange(&told, 1))
		tell();
	return real(fd, request, arg);
}
