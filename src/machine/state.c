/*
 * The machine's state into a file and back: the generic walk over its parts. include/machine/machine.h has
 * the list of nodes, design notes on order stand beside each step.
 */
#include "base/cleanup.h"
#include "machine.h"

#include <errno.h>
#include <string.h>

void machine_quiesce_devices(struct machine *machine)
{
	if (machine->at_rest)
		return;
	for (size_t i = 0; i < machine->device_count; i++)
		if (machine->devices[i]->class->quiesce)
			machine->devices[i]->class->quiesce(machine->devices[i]);
	machine->at_rest = true;
}

void machine_resume_devices(struct machine *machine)
{
	if (!machine->at_rest)
		return;
	for (size_t i = 0; i < machine->device_count; i++)
		if (machine->devices[i]->class->resume)
			machine->devices[i]->class->resume(machine->devices[i]);
	machine->at_rest = false;
}

/* They stand together, in the order of the config. */
uint32_t machine_device_instance(const struct machine *machine, size_t index)
{
	uint32_t instance = 0;
	while (index-- > 0 && machine->devices[index]->class == machine->devices[index + 1]->class)
		instance++;
	return instance;
}

/* ---- save ---- */

static int save_device(struct device *device, uint32_t instance, struct state_writer *writer, struct err *err)
{
	const struct state_table *table = device->class->state;
	_cleanup_free_ void *regs = calloc(1, table->size);
	if (!regs)
		return err_sys(err, -ENOMEM, "%s%u", device->class->name, instance);
	device->class->save(device, regs);
	state_begin_numbered(writer, device->class->name, instance);
	state_write_table(writer, table, regs);
	state_end(writer);
	return 0;
}

static int save_devices(struct machine *machine, struct state_writer *writer, struct err *err)
{
	int r = 0;
	state_begin(writer, "devices");
	for (size_t i = 0; r == 0 && i < machine->device_count; i++)
		r = save_device(machine->devices[i], machine_device_instance(machine, i), writer, err);
	state_end(writer);
	return r;
}

static int save_chips(struct machine *machine, struct state_writer *writer, struct err *err)
{
	struct irqchip_regs chips = {0};
	struct pci_host_regs host = {0};
	int r = irqchip_save(machine->irqchip, &chips, err);
	state_begin(writer, "irqchip");
	state_write_table(writer, &irqchip_state, &chips);
	state_end(writer);
	pci_bus_save(machine->pci, &host);
	state_begin(writer, "pci-host");
	state_write_table(writer, &pci_host_state, &host);
	state_end(writer);
	return r;
}

static bool has_event(struct machine *machine)
{
	pthread_mutex_lock(&machine->lock);
	bool has = machine->event != EVENT_NONE;
	pthread_mutex_unlock(&machine->lock);
	return has;
}

/*
 * vCPUs before the chips: reading a vCPU's state can make KVM take a pending interrupt into the local APIC,
 * which is the vCPU's. Devices were at rest before, so nothing new arrives at either.
 */
int machine_save_state(struct machine *machine, struct state_writer *writer, struct err *err)
{
	if (machine->status == MACHINE_RUNNING || !machine->at_rest)
		return err_set(err, -EINVAL, "the machine runs");
	if (has_event(machine))
		return err_set(err, -EBUSY, "the guest is about to be reset or to end");
	int r = vcpus_save(machine->vcpus, writer, err);
	if (r == 0)
		r = save_chips(machine, writer, err);
	return r < 0 ? r : save_devices(machine, writer, err);
}

int machine_save_vcpus(struct machine *machine, struct state_writer *writer, struct err *err)
{
	bool runs = machine->status == MACHINE_RUNNING;
	if (runs)
		vcpus_pause(machine->vcpus);
	int r = vcpus_save(machine->vcpus, writer, err);
	if (runs)
		machine_go(machine); /* which knows of a reset that waits */
	return r;
}

/* ---- load ---- */

enum { ROOT_NODES = 5 }; /* vcpus, clock, irqchip, pci-host, devices */

/* Decoded, and nothing of it applied. */
struct loaded {
	struct vcpus_state *vcpus;
	struct irqchip_regs chips;
	struct pci_host_regs host;
	void *devices[MACHINE_DEVICES_MAX];
};

static void loaded_finish(struct loaded *loaded)
{
	vcpus_state_free(loaded->vcpus);
	for (size_t i = 0; i < MACHINE_DEVICES_MAX; i++)
		free(loaded->devices[i]);
}

static int decode_node(const struct state_file *file, const char *name, const struct state_table *table,
		       void *data, struct err *err)
{
	int node = state_node(file, 0, name, err);
	return node < 0 ? node : state_decode(table, data, file->fdt, node, err);
}

/* What a file of an older version does not have takes the value of a reset: what the device shows now. */
static int decode_device(struct device *device, uint32_t instance, const struct state_file *file, int parent,
			 void **ret, struct err *err)
{
	const struct state_table *table = device->class->state;
	int node = state_node_numbered(file, parent, device->class->name, instance, err);
	if (node < 0)
		return node;
	*ret = calloc(1, table->size);
	if (!*ret)
		return err_sys(err, -ENOMEM, "%s%u", device->class->name, instance);
	device->class->save(device, *ret);
	return state_decode(table, *ret, file->fdt, node, err);
}

static int decode_devices(const struct machine *machine, const struct state_file *file, struct loaded *loaded,
			  struct err *err)
{
	int parent = state_node(file, 0, "devices", err);
	int r = parent < 0 ? parent : 0;
	for (size_t i = 0; r == 0 && i < machine->device_count; i++)
		r = decode_device(machine->devices[i], machine_device_instance(machine, i), file, parent,
				  &loaded->devices[i], err);
	/* What is left over belongs to a device that this machine lacks. */
	return r < 0 ? r : state_check_nodes(file, parent, (uint32_t)machine->device_count, err);
}

static int decode(const struct machine *machine, const struct state_file *file, struct loaded *loaded,
		  struct err *err)
{
	static const char *const root[] = {"format", "crc32c", NULL};
	int r = state_check_properties(file, 0, root, err);
	if (r == 0)
		r = state_check_nodes(file, 0, ROOT_NODES, err);
	if (r == 0)
		r = vcpus_state_read(machine->vcpus, file, 0, &loaded->vcpus, err);
	if (r == 0)
		r = decode_node(file, "irqchip", &irqchip_state, &loaded->chips, err);
	if (r == 0)
		r = decode_node(file, "pci-host", &pci_host_state, &loaded->host, err);
	return r < 0 ? r : decode_devices(machine, file, loaded, err);
}

/*
 * vCPUs first: their local APICs must be there when the IOAPIC hands on what is pending in it. Then the
 * clocks, as late as can be. Devices last: the levels and messages that they drive anew go into chips that
 * are what they were. They stay at rest until the machine goes on.
 */
static int apply(struct machine *machine, struct loaded *loaded, bool went_on, struct err *err)
{
	int r = vcpus_state_apply(machine->vcpus, loaded->vcpus,
				  went_on ? VCPUS_TIME_WENT_ON : VCPUS_TIME_STOOD, err);
	if (r == 0)
		r = irqchip_restore(machine->irqchip, &loaded->chips, err);
	if (r == 0)
		r = pci_bus_restore(machine->pci, &loaded->host, err);
	for (size_t i = 0; r == 0 && i < machine->device_count; i++) {
		struct device *device = machine->devices[i];
		r = device->class->restore(device, loaded->devices[i], err);
		if (r < 0)
			(void)err_prepend(err, "%s%u", device->class->name,
					  machine_device_instance(machine, i));
	}
	return r < 0 ? r : vcpus_state_apply_clock(machine->vcpus, loaded->vcpus, err);
}

int machine_load_state(struct machine *machine, const struct state_file *file, bool went_on, struct err *err)
{
	struct loaded loaded = {0};
	int r = decode(machine, file, &loaded, err);
	if (r == 0)
		r = apply(machine, &loaded, went_on, err);
	loaded_finish(&loaded);
	return r < 0 ? err_prepend(err, "state") : 0;
}
