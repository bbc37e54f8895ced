/*
 * state.dtb of a snapshot that anybody may have written, its checksum included. A good one, of two vCPUs and
 * of each device once, is patched: by bytes, or by properties that are set, emptied or taken away. Then it is
 * sealed anew, so that what is inside is read. Rules: refused with one line that says why, or decoded; never
 * a byte outside.
 */
#include "fuzz.h"

#include "../../src/cpu/vcpus_state.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "devices/device.h"
#include "irq/irqchip.h"

#include <errno.h>
#include <libfdt.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>

enum { CPUS = 2, MSRS = 3, NESTED_BYTES = 8320, SPARE_BYTES = 65536 };

/* KVM, as far as reading asks it: what it supports, and zeros. */
static int supported(struct kvm_cpuid2 *cpuid)
{
	FUZZ_CHECK(cpuid->nent >= 1);
	cpuid->nent = 1;
	cpuid->entries[0] = (struct kvm_cpuid_entry2){.eax = 1, .ebx = 0x756e6547};
	return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	(void)fd;
	va_start(args, request);
	void *arg = va_arg(args, void *);
	va_end(args);
	switch (request) {
	case KVM_GET_SUPPORTED_CPUID:
		return supported(arg);
	case KVM_GET_MSRS:
		return (int)((struct kvm_msrs *)arg)->nmsrs;
	case KVM_GET_NESTED_STATE:
		((struct kvm_nested_state *)arg)->size = NESTED_BYTES;
		return 0;
	default:
		return 0;
	}
}

static struct vcpus *make_vcpus(void)
{
	struct vcpus *vcpus = calloc(1, sizeof(*vcpus) + CPUS * sizeof(vcpus->vcpu[0]));
	struct err err = ERR_INIT;
	FUZZ_CHECK(vcpus);
	vcpus->count = CPUS;
	vcpus->nested = CPU_NESTED_VMX;
	vcpus->layout = (struct vcpu_layout){.xsave_bytes = 4096,
					     .has_xcrs = true,
					     .nested_bytes = NESTED_BYTES,
					     .msr_count = MSRS,
					     .msrs = {0x480, 0x3a, 0x10}};
	for (uint32_t i = 0; i < CPUS; i++) {
		struct vcpu *vcpu = &vcpus->vcpu[i];
		vcpu->all = vcpus;
		vcpu->index = vcpu->apic_id = i;
		FUZZ_CHECK(vcpu_state_init(&vcpu->power_on, &vcpus->layout, &err) == 0);
		for (uint32_t m = 0; m < MSRS; m++)
			vcpu->power_on.msrs[m].index = vcpus->layout.msrs[m];
		vcpu->cpuid = calloc(1, sizeof(*vcpu->cpuid));
		FUZZ_CHECK(vcpu->cpuid);
		vcpu->cpuid->count = 1;
		vcpu->cpuid->entries[0] = (struct kvm_cpuid_entry2){.eax = 1, .ebx = 0x756e6547};
	}
	return vcpus;
}

static void write_unit(struct state_writer *writer, const char *name, const struct state_table *table)
{
	void *zeros = calloc(1, table->size);
	FUZZ_CHECK(zeros);
	state_begin(writer, name);
	state_write_table(writer, table, zeros);
	state_end(writer);
	free(zeros);
}

/* Made once; `room` bytes, so that properties can be added. */
static void *make_good(struct vcpus *vcpus, size_t *ret_room)
{
	struct state_writer *writer;
	struct err err = ERR_INIT;
	const void *blob;
	size_t bytes;
	FUZZ_CHECK(state_writer_create(&writer, &err) == 0);
	FUZZ_CHECK(vcpus_save(vcpus, writer, &err) == 0);
	write_unit(writer, "irqchip", &irqchip_state);
	write_unit(writer, "pci-host", &pci_host_state);
	state_begin(writer, "devices");
	for (size_t i = 0; device_registry[i]; i++)
		write_unit(writer, device_registry[i]->name, device_registry[i]->state);
	state_end(writer);
	FUZZ_CHECK(state_writer_finish(writer, &blob, &bytes, &err) == 0);
	*ret_room = bytes + SPARE_BYTES;
	void *good = calloc(1, *ret_room);
	FUZZ_CHECK(good && fdt_open_into(blob, good, (int)*ret_room) == 0);
	state_writer_destroy(writer);
	return good;
}

/* The n-th node of the tree, in order. */
static int nth_node(const void *fdt, unsigned n)
{
	int node = 0, next;
	while (n-- > 0 && (next = fdt_next_node(fdt, node, NULL)) >= 0)
		node = next;
	return node;
}

static const char *nth_property(const void *fdt, int node, unsigned n)
{
	const char *name = NULL;
	int offset;
	fdt_for_each_property_offset(offset, fdt, node)
	{
		(void)fdt_getprop_by_offset(fdt, offset, &name, NULL);
		if (n-- == 0)
			break;
	}
	return name;
}

/* Each patch has 12 bytes: what, which node, which property, a length or offset, a value. */
static void patch(void *fdt, size_t room, const uint8_t *p)
{
	int node = nth_node(fdt, p[1] % 64);
	const char *name = nth_property(fdt, node, p[2] % 32);
	uint8_t value[64];
	memset(value, p[4], sizeof(value));
	memcpy(value, p + 4, 8);
	switch (p[0] % 6) {
	case 0:
		memcpy((uint8_t *)fdt + load_le32(p + 1) % (room - 8), p + 5, 1 + p[10] % 7);
		break;
	case 1:
		(void)(name && fdt_setprop(fdt, node, name, value, p[3] % sizeof(value)));
		break;
	case 2:
		(void)(name && fdt_delprop(fdt, node, name));
		break;
	case 3: {
		int len;
		uint8_t *at = name ? fdt_getprop_w(fdt, node, name, &len) : NULL;
		if (at && len > 0)
			at[load_le16(p + 3) % (unsigned)len] = p[5];
		break;
	}
	case 4:
		(void)(node > 0 && fdt_del_node(fdt, node));
		break;
	default:
		(void)fdt_setprop(fdt, node, "another", value, p[3] % sizeof(value));
		break;
	}
}

static void read_all(const struct vcpus *vcpus, const struct state_file *file, bool good)
{
	struct vcpus_state *state;
	struct err err = ERR_INIT;
	if (vcpus_state_read(vcpus, file, 0, &state, &err) == 0)
		vcpus_state_free(state);
	else
		FUZZ_CHECK(!good && err.text[0] && !strchr(err.text, '\n'));
	err = ERR_INIT;
	if (vcpus_state_check(file, 0, -1, &err) < 0)
		FUZZ_CHECK(err.text[0] && !strchr(err.text, '\n'));
	err = ERR_INIT;
	int devices = state_node(file, 0, "devices", &err);
	for (size_t i = 0; devices >= 0 && device_registry[i]; i++) {
		const struct state_table *table = device_registry[i]->state;
		err = ERR_INIT;
		int node = state_node(file, devices, device_registry[i]->name, &err);
		void *regs = calloc(1, table->size);
		FUZZ_CHECK(regs);
		if (node >= 0 && state_decode(table, regs, file->fdt, node, &err) < 0)
			FUZZ_CHECK(err.text[0] && !strchr(err.text, '\n'));
		free(regs);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vcpus *vcpus;
	static void *good;
	static size_t room;
	if (!vcpus) {
		vcpus = make_vcpus();
		good = make_good(vcpus, &room);
	}
	bool untouched = size < 12;
	uint8_t *fdt = malloc(room);
	FUZZ_CHECK(fdt);
	memcpy(fdt, good, room);
	for (; size >= 12; data += 12, size -= 12)
		if (fdt_check_header(fdt) == 0 && fdt_check_full(fdt, room) == 0)
			patch(fdt, room, data);
	size_t bytes = fdt_check_header(fdt) == 0 && fdt_pack(fdt) == 0 ? fdt_totalsize(fdt) : room;
	uint8_t *exact = malloc(bytes < room ? bytes : room);
	FUZZ_CHECK(exact);
	bytes = bytes < room ? bytes : room;
	memcpy(exact, fdt, bytes);
	if (fdt_check_header(exact) == 0 && fdt_check_full(exact, bytes) == 0 &&
	    fdt_setprop_inplace_u32(exact, 0, "crc32c", 0) == 0)
		(void)fdt_setprop_inplace_u32(exact, 0, "crc32c", crc32c(0, exact, bytes));
	struct state_file file;
	struct err err = ERR_INIT;
	if (state_file_open(exact, bytes, &file, &err) == 0)
		read_all(vcpus, &file, untouched);
	else
		FUZZ_CHECK(err.text[0] && !strchr(err.text, '\n'));
	free(exact);
	free(fdt);
	return 0;
}
