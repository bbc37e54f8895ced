/* What a shell in an initramfs cannot ask: who is the hypervisor, what does a port say. Linked statically,
 * runs at every level. */
#include <cpuid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/socket.h>
#include <sys/un.h>
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

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "hypervisor") == 0)
		return print_hypervisor();
	if (argc == 4 && strcmp(argv[1], "outb") == 0)
		return write_port(argv[2], argv[3]);
	if (argc == 3 && strcmp(argv[1], "vsock-talk") == 0)
		return vsock_talk(argv[2]);
	if (argc == 3 && strcmp(argv[1], "unix-echo") == 0)
		return unix_echo(argv[2]);
	fputs("probe hypervisor | outb PORT VALUE | vsock-talk PORT | unix-echo PATH\n", stderr);
	return 2;
}
