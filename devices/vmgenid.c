/*
 * The virtual machine generation id: 16 bytes in reserved RAM that change when a machine becomes another one
 * (a clone of a snapshot), so that its guest makes itself new keys and random numbers ("Virtual Machine
 * Generation ID", Microsoft; in Linux since 5.18). The guest finds their place by ACPI
 * (firmware/acpi_dsdt.c), and is told of a change by an edge on LAYOUT_GSI_VMGENID.
 *
 * A restored machine keeps its id unless the config gives another one: who restores a snapshot twice says so
 * by
 * `--set vm_generation_id=`.
 */
#include "base/cleanup.h"
#include "base/layout.h"
#include "base/random.h"
#include "devices.h"

#include <errno.h>
#include <string.h>

enum { GUID_BYTES = 16 };

struct vmgenid_regs {
	uint8_t guid[GUID_BYTES]; /* as the guest reads it */
};

struct vmgenid {
	struct device base;
	struct guest_memory *memory;
	struct irq_line line;
	const char *wish; /* the config's, or NULL; borrowed */
	struct vmgenid_regs regs;
};

static const struct state_field fields[] = {STATE_ARRAY(struct vmgenid_regs, guid)};
static const struct state_table vmgenid_state = STATE_TABLE("vmgenid", struct vmgenid_regs, fields);

static unsigned digit(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a' + 10);
}

/* "00112233-4455-6677-8899-aabbccddeeff", which the config has checked. The first three groups are numbers,
 * and lie in memory as such, little-endian. */
static void parse_guid(const char *text, uint8_t guid[GUID_BYTES])
{
	static const uint8_t places[GUID_BYTES] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
	for (size_t i = 0; i < GUID_BYTES; i++) {
		text += *text == '-';
		guid[places[i]] = (uint8_t)(digit(text[0]) << 4 | digit(text[1]));
		text += 2;
	}
}

/* Nothing happens in a machine without RAM there, which only tests have. */
static void show(struct vmgenid *vmgenid)
{
	if (vmgenid->memory)
		(void)guest_memory_write(vmgenid->memory, LAYOUT_VMGENID_GPA, vmgenid->regs.guid, GUID_BYTES);
}

static void vmgenid_destroy(struct device *device)
{
	if (device)
		free(container_of(device, struct vmgenid, base));
}

static int vmgenid_create(const void *config, size_t index, const struct device_services *services,
			  struct device **ret, struct err *err)
{
	const struct machine_config *machine = config;
	struct vmgenid *vmgenid = calloc(1, sizeof(*vmgenid));
	(void)index;
	if (!vmgenid)
		return err_sys(err, -ENOMEM, "generation id");
	vmgenid->base.class = &vmgenid_class;
	vmgenid->memory = services->memory;
	vmgenid->line = (struct irq_line){.sink = services->irq, .gsi = LAYOUT_GSI_VMGENID};
	vmgenid->wish = machine->vm_generation_id;
	if (vmgenid->wish) {
		parse_guid(vmgenid->wish, vmgenid->regs.guid);
	} else {
		int r = random_bytes(vmgenid->regs.guid, GUID_BYTES, 0);
		if (r < 0) {
			vmgenid_destroy(&vmgenid->base);
			return err_sys(err, r, "generation id");
		}
	}
	if (!services->incoming)
		show(vmgenid);
	*ret = &vmgenid->base;
	return 0;
}

/* It is the same machine after a reset. */
static void vmgenid_reset(struct device *device)
{
	show(container_of(device, struct vmgenid, base));
}

static void vmgenid_save(struct device *device, void *regs)
{
	memcpy(regs, &container_of(device, struct vmgenid, base)->regs, sizeof(struct vmgenid_regs));
}

static int vmgenid_restore(struct device *device, const void *regs, struct err *err)
{
	struct vmgenid *vmgenid = container_of(device, struct vmgenid, base);
	struct vmgenid_regs wish = *(const struct vmgenid_regs *)regs;
	(void)err;
	if (vmgenid->wish)
		parse_guid(vmgenid->wish, wish.guid);
	vmgenid->regs = wish;
	if (memcmp(wish.guid, regs, GUID_BYTES) == 0)
		return 0; /* RAM has it */
	show(vmgenid);
	irq_line_set(&vmgenid->line, true);
	irq_line_set(&vmgenid->line, false);
	return 0;
}

static const void *vmgenid_config(const struct machine_config *machine, size_t index)
{
	return index == 0 ? machine : NULL;
}

const struct device_class vmgenid_class = {
	.name = "vmgenid",
	.state = &vmgenid_state,
	.config = vmgenid_config,
	.create = vmgenid_create,
	.destroy = vmgenid_destroy,
	.reset = vmgenid_reset,
	.save = vmgenid_save,
	.restore = vmgenid_restore,
};
