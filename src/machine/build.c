/* How a machine comes into being, and how it goes. */
#include "base/cleanup.h"
#include "base/layout.h"
#include "firmware/firmware.h"
#include "host/kvm.h"
#include "host/vm.h"
#include "machine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>

enum { LOOP_ENTRIES = 64 };

/* Dying of a bug of ours must not leave the operator's terminal in raw mode. */
static void give_terminal_back(int signal)
{
	chardev_restore_terminal();
	(void)raise(signal); /* SA_RESETHAND: now the default */
}

static void catch_fatal_signals(void)
{
	static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
	const struct sigaction action = {.sa_handler = give_terminal_back, .sa_flags = (int)SA_RESETHAND};
	struct sigaction before;
	for (size_t i = 0; i < ARRAY_LEN(fatal); i++)
		if (sigaction(fatal[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
			(void)sigaction(fatal[i], &action, NULL); /* a sanitizer's own handler stays */
}

/*
 * The signals that mean something to a machine are read by the loop. Blocked before the first thread exists,
 * so that all threads inherit the mask and none is killed by them.
 */
static int build_signals(struct machine *machine, struct err *err)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGPWR, SIGWINCH};
	sigset_t set;
	(void)sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		(void)sigaddset(&set, signals[i]);
	int r = pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (r)
		return err_sys(err, -r, "signal mask");
	catch_fatal_signals();
	(void)signal(SIGPIPE, SIG_IGN); /* a reader that went away is an EPIPE of that one stream */
	machine->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return machine->signal_fd < 0 ? err_sys(err, -errno, "signalfd") : 0;
}

static int build_loop(struct machine *machine, struct err *err)
{
	return loop_create(LOOP_ENTRIES, &machine->loop, err);
}

static int build_vm(struct machine *machine, struct err *err)
{
	const struct cpus_config *cpus = &machine->config->cpus;
	machine->kvm_fd = kvm_open(err);
	if (machine->kvm_fd < 0)
		return machine->kvm_fd;
	machine->vm_fd = vm_create(machine->kvm_fd, cpus->count, cpu_apic_id(cpus, cpus->count - 1), err);
	return machine->vm_fd < 0 ? machine->vm_fd : 0;
}

/*
 * RAM before the chips: KVM_CREATE_IRQCHIP starts a grace period that KVM_SET_USER_MEMORY_REGION would wait
 * for, 6 ms against 0.3 the other way round.
 */
static int build_memory(struct machine *machine, struct err *err)
{
	struct err why = ERR_INIT;
	int r = guest_memory_create(&machine->config->memory, &machine->memory, err);
	if (r == 0 && machine->ram_fd >= 0) {
		/* Before KVM knows it: it would look through all of RAM for what it must forget. */
		r = guest_memory_map_file(machine->memory, machine->ram_fd, &why);
		r = r < 0 && r != -EOPNOTSUPP ? err_set(err, r, "%s", why.text) : 0;
	}
	return r < 0 ? r : guest_memory_attach(machine->memory, machine->vm_fd, err);
}

/* The chips precede the vCPUs: each vCPU gets its local APIC from them. */
static int build_irqchip(struct machine *machine, struct err *err)
{
	int r = irqchip_create(machine->vm_fd, &machine->irqchip, err);
	return r < 0 ? r : msi_create(machine->vm_fd, &machine->msi, err);
}

static int build_buses(struct machine *machine, struct err *err)
{
	int r = bus_create(&machine->bus, err);
	if (r < 0)
		return r;
	bus_set_vm(machine->bus, machine->vm_fd);
	return pci_bus_create(machine->bus, irqchip_sink(machine->irqchip), msi_get_sink(machine->msi),
			      layout_ram_end_gpa(machine->config->memory.size_bytes), &machine->pci, err);
}

struct poll_wish {
	struct iothread *thread;
	uint64_t most_ns;
};

static int set_poll(void *arg)
{
	const struct poll_wish *wish = arg;
	loop_set_poll(iothread_loop(wish->thread), wish->most_ns);
	return 0;
}

/* Only for machines that have something to serve: a thread costs start-up time and memory. */
static int build_io_threads(struct machine *machine, struct err *err)
{
	const struct machine_config *config = machine->config;
	size_t count = config->io.threads	? config->io.threads
		       : config->cpus.count < 4 ? config->cpus.count
						: 4;
	if (config->device_count == 0)
		return 0;
	for (; machine->io_thread_count < count; machine->io_thread_count++) {
		char name[16];
		(void)snprintf(name, sizeof(name), "io%zu", machine->io_thread_count + 1);
		int r = iothread_create(name, &machine->io_threads[machine->io_thread_count], err);
		if (r < 0)
			return err_prepend(err, "I/O thread");
		struct poll_wish wish = {machine->io_threads[machine->io_thread_count],
					 config->io.poll_us * UINT64_C(1000)};
		(void)iothread_call(wish.thread, set_poll, &wish);
	}
	return 0;
}

/* A device that no class of this build serves would be an option parsed and ignored. */
static int check_all_built(const struct machine *machine, const bool *built, struct err *err)
{
	for (size_t i = 0; i < machine->config->device_count; i++)
		if (!built[i])
			return err_set(err, -ENOSYS, "devices.%zu: this build of aerie cannot make it", i);
	return 0;
}

static int build_devices(struct machine *machine, struct err *err)
{
	const struct device_services services = {
		.machine_name = machine->config->name,
		.bus = machine->bus,
		.irq = irqchip_sink(machine->irqchip),
		.loop = machine->loop,
		.memory = machine->memory,
		.vm_fd = machine->vm_fd,
		.pci = machine->pci,
		.io_threads = machine->io_threads,
		.io_thread_count = machine->io_thread_count,
		.cpu_count = machine->config->cpus.count,
		.request = machine_request,
		.request_owner = machine,
		.tell = machine_news,
		.tell_owner = machine,
		.keys = {.action = machine_console, .owner = machine},
		.incoming = machine->incoming,
		.absent = machine->absent,
	};
	bool built[CONFIG_DEVICES_MAX] = {false};
	const uintptr_t first = (uintptr_t)machine->config->devices;
	for (const struct device_class *const *class = device_registry; *class; class ++) {
		const void *config;
		for (size_t i = 0; (config = (*class)->config(machine->config, i)); i++) {
			if (machine->device_count == MACHINE_DEVICES_MAX)
				return err_set(err, -E2BIG, "devices: at most %d", MACHINE_DEVICES_MAX);
			struct device **device = &machine->devices[machine->device_count];
			int r = (*class)->create(config, i, &services, device, err);
			if (r < 0)
				return err_prepend(err, "%s%zu", (*class)->name, i);
			machine->device_count++;
			size_t entry = ((uintptr_t)config - first) / sizeof(machine->config->devices[0]);
			if ((uintptr_t)config >= first && entry < CONFIG_DEVICES_MAX)
				built[entry] = true;
		}
	}
	return check_all_built(machine, built, err);
}

static int build_vcpus(struct machine *machine, struct err *err)
{
	const struct vcpus_spec spec = {
		.kvm_fd = machine->kvm_fd,
		.vm_fd = machine->vm_fd,
		.cpus = &machine->config->cpus,
		.cpu = &machine->config->cpu,
		.nested = machine->config->nested,
		.ram_end_gpa = layout_ram_end_gpa(machine->config->memory.size_bytes),
		.bus = machine->bus,
		.memory = machine->memory,
		.events = {.triple_fault = machine_triple_fault,
			   .crashed = machine_crashed,
			   .owner = machine},
	};
	return vcpus_create(&spec, &machine->vcpus, err);
}

bool machine_nests(const struct machine *machine)
{
	return vcpus_nested(machine->vcpus) != CPU_NESTED_NONE;
}

int machine_load(struct machine *machine, struct err *err)
{
	struct cpu_boot boot = {0};
	int r = firmware_load(machine->config, machine->memory, &boot, err);
	const struct guest_region *regions;
	size_t count = guest_memory_regions(machine->memory, &regions);
	for (size_t i = 0; i < count; i++) /* the loaders write where they like */
		guest_memory_mark(machine->memory, regions[i].host, regions[i].size);
	return r < 0 ? r : vcpus_boot(machine->vcpus, &boot, err);
}

/* Each step needs those before it; machine_destroy goes through them backwards. */
static int (*const build_steps[])(struct machine *machine, struct err *err) = {
	build_signals,	  build_loop,  build_vm,      build_memory, build_irqchip,
	build_io_threads, build_buses, build_devices, build_vcpus,
};

static int machine_build(const struct machine_config *config, bool absent, int ram_fd,
			 int (*last)(struct machine *machine, struct err *err), struct machine **ret,
			 struct err *err)
{
	struct machine *machine = calloc(1, sizeof(*machine));
	if (!machine)
		return err_sys(err, -ENOMEM, "machine");
	machine->config = config;
	machine->incoming = last != machine_load;
	machine->absent = absent;
	machine->announcement.params = machine_announce_default;
	machine->ram_fd = ram_fd;
	machine->kvm_fd = machine->vm_fd = machine->signal_fd = -1;
	machine->event_op.done = machine_on_event;
	machine->signal_op.done = machine_on_signal;
	machine_news_init(machine);
	pthread_mutex_init(&machine->lock, NULL);
	int r = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(build_steps); i++)
		r = build_steps[i](machine, err);
	if (r == 0)
		r = last(machine, err);
	if (r < 0) {
		machine_destroy(machine);
		return r;
	}
	*ret = machine;
	return 0;
}

int machine_create(const struct machine_config *config, struct machine **ret, struct err *err)
{
	return machine_build(config, false, -1, machine_load, ret, err);
}

/* At rest: a restored device would begin with what it finds in RAM, before the vCPUs are what they were. */
static int await_state(struct machine *machine, struct err *err)
{
	(void)err;
	machine_pause(machine, MACHINE_INMIGRATE);
	machine->held = false;
	return 0;
}

int machine_create_incoming(const struct machine_config *config, int ram_fd, struct machine **ret,
			    struct err *err)
{
	return machine_build(config, false, ram_fd, await_state, ret, err);
}

int machine_create_absent(const struct machine_config *config, struct machine **ret, struct err *err)
{
	return machine_build(config, true, -1, await_state, ret, err);
}

void machine_destroy(struct machine *machine)
{
	if (!machine)
		return;
	machine_throttle_free(machine);
	machine_announce_free(machine);
	vcpus_destroy(machine->vcpus); /* first: its threads call into all the rest */
	while (machine->device_count > 0) {
		struct device *device = machine->devices[--machine->device_count];
		device->class->destroy(device);
	}
	while (machine->io_thread_count > 0)
		iothread_destroy(machine->io_threads[--machine->io_thread_count]);
	machine_news_end(machine);
	pci_bus_destroy(machine->pci);
	bus_destroy(machine->bus);
	msi_destroy(machine->msi);
	irqchip_destroy(machine->irqchip);
	kvm_stats_close(machine->stats);
	(void)close_fd(machine->vm_fd); /* before the RAM that it maps */
	guest_memory_destroy(machine->memory);
	(void)close_fd(machine->kvm_fd);
	loop_destroy(machine->loop);
	(void)close_fd(machine->signal_fd);
	pthread_mutex_destroy(&machine->lock);
	free(machine);
}
