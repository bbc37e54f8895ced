/*
 * A real machine: see guest_machine.h. A call is posted to the machine's loop and waited for. The machine may
 * end meanwhile (power-off, a signal): guest_machine_end then answers in its place.
 */
#include "guest_machine.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "config_match.h"
#include "devices/disk.h"
#include "host/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct guest_call {
	int (*run)(struct machine *machine, struct guest_call *call);
	/* In and out, as the call needs them. */
	bool flag;
	unsigned number;
	const void *data;
	void *out;
	size_t bytes;
	char *text;
	struct err err;
	/* The answer. */
	int result;
	bool done;
};

static void run_call(struct loop_op *op, int res)
{
	struct guest_machine *guest = container_of(op, struct guest_machine, op);
	(void)res;
	pthread_mutex_lock(&guest->lock);
	struct guest_call *call = guest->call;
	pthread_mutex_unlock(&guest->lock);
	if (!call)
		return;
	int r = call->run(guest->machine, call);
	pthread_mutex_lock(&guest->lock);
	call->result = r;
	call->done = true;
	guest->call = NULL;
	pthread_cond_broadcast(&guest->changed);
	pthread_mutex_unlock(&guest->lock);
}

static int call_machine(struct guest *base, struct guest_call *call)
{
	struct guest_machine *guest = container_of(base, struct guest_machine, guest);
	call->err = ERR_INIT;
	pthread_mutex_lock(&guest->lock);
	if (!guest->ended) {
		guest->call = call;
		loop_post(machine_loop(guest->machine), &guest->op);
		while (!call->done)
			pthread_cond_wait(&guest->changed, &guest->lock);
	} else {
		call->result = err_set(&call->err, -ECANCELED, "the machine ends");
	}
	pthread_mutex_unlock(&guest->lock);
	return call->result;
}

/* The call's message is its caller's. */
static int pass_error(const struct guest_call *call, struct err *err)
{
	return call->result < 0 ? err_set(err, call->result, "%s",
					  *call->err.text ? call->err.text : strerror(-call->result))
				: 0;
}

void guest_machine_end(struct guest_machine *guest)
{
	pthread_mutex_lock(&guest->lock);
	guest->ended = true;
	if (guest->call) {
		guest->call->result = err_set(&guest->call->err, -ECANCELED, "the machine ends");
		guest->call->done = true;
		guest->call = NULL;
		pthread_cond_broadcast(&guest->changed);
	}
	pthread_mutex_unlock(&guest->lock);
	(void)loop_release(machine_loop(guest->machine), &guest->op);
}

static int run_disks(struct machine *machine, struct guest_call *call)
{
	struct wire_disks *disks = call->out;
	struct device *device;
	int r = 0;
	*disks = (struct wire_disks){.count = 0};
	for (size_t i = 0; r == 0 && (device = machine_device(machine, i)); i++) {
		if (!device_is_disk(device))
			continue;
		if (disks->count == WIRE_DISKS_MAX)
			return err_set(&call->err, -E2BIG, "more than %d disks", WIRE_DISKS_MAX);
		r = disk_look(device, &disks->bytes[disks->count++], &call->err);
	}
	return r;
}

static int machine_disks(struct guest *guest, struct wire_disks *ret, struct err *err)
{
	struct guest_call call = {.run = run_disks, .out = ret};
	(void)call_machine(guest, &call);
	return pass_error(&call, err);
}

/* ---- the source ---- */

static int run_config(struct machine *machine, struct guest_call *call)
{
	_cleanup_free_ char *folder = getcwd(NULL, 0);
	if (!folder)
		return err_sys(&call->err, -errno, "working directory");
	call->text = config_print_in(machine_config(machine), folder);
	return call->text ? 0 : err_sys(&call->err, -ENOMEM, "configuration");
}

static char *machine_config_text(struct guest *guest, struct err *err)
{
	struct guest_call call = {.run = run_config};
	(void)call_machine(guest, &call);
	return pass_error(&call, err) < 0 ? NULL : call.text;
}

static int take_state(struct machine *machine, struct guest_call *call,
		      int (*take)(struct machine *, struct state_writer *, struct err *))
{
	struct state_writer *writer = NULL;
	const void *blob;
	int r = state_writer_create(&writer, &call->err);
	if (r == 0)
		r = take(machine, writer, &call->err);
	if (r == 0)
		r = state_writer_finish(writer, &blob, &call->bytes, &call->err);
	if (r == 0) {
		call->out = malloc(call->bytes);
		r = call->out ? 0 : err_sys(&call->err, -ENOMEM, "state");
	}
	if (r == 0)
		memcpy(call->out, blob, call->bytes);
	state_writer_destroy(writer);
	return r;
}

static int run_peek(struct machine *machine, struct guest_call *call)
{
	return take_state(machine, call, machine_peek_state);
}

static int run_save(struct machine *machine, struct guest_call *call)
{
	return take_state(machine, call, machine_save_state);
}

static int get_state(struct guest *guest, struct guest_call *call, void **ret, size_t *ret_bytes,
		     struct err *err)
{
	int r = call_machine(guest, call);
	if (r < 0)
		return pass_error(call, err);
	*ret = call->out;
	*ret_bytes = call->bytes;
	return 0;
}

/* -EBUSY: the guest has asked for a reset a moment ago, and gets it now. */
enum { PEEK_TRIES = 50, PEEK_PAUSE_US = 20000 };

static int machine_peek(struct guest *guest, void **ret, size_t *ret_bytes, struct err *err)
{
	struct err one = ERR_INIT;
	int r = -EBUSY;
	for (int i = 0; i < PEEK_TRIES && r == -EBUSY; i++) {
		struct guest_call call = {.run = run_peek};
		if (i)
			(void)usleep(PEEK_PAUSE_US);
		one = ERR_INIT;
		r = get_state(guest, &call, ret, ret_bytes, &one);
	}
	return r < 0 ? err_set(err, r, "%s", one.text) : 0;
}

static int machine_save(struct guest *guest, void **ret, size_t *ret_bytes, struct err *err)
{
	struct guest_call call = {.run = run_save};
	return get_state(guest, &call, ret, ret_bytes, err);
}

static int run_stop(struct machine *machine, struct guest_call *call)
{
	call->flag = machine_status(machine) == MACHINE_RUNNING;
	machine_pause(machine, MACHINE_FINISH_MIGRATE);
	return machine_release(machine, &call->err);
}

static int machine_stop(struct guest *guest, bool *ret_running, struct err *err)
{
	struct guest_call call = {.run = run_stop};
	(void)call_machine(guest, &call);
	*ret_running = call.flag;
	return pass_error(&call, err);
}

static int run_back(struct machine *machine, struct guest_call *call)
{
	int r = machine_acquire(machine, &call->err);
	if (r == 0 && call->flag)
		machine_continue(machine);
	else if (r != -EBUSY)
		machine_pause(machine, MACHINE_PAUSED);
	return r;
}

static int machine_back(struct guest *guest, bool running, struct err *err)
{
	struct guest_call call = {.run = run_back, .flag = running};
	(void)call_machine(guest, &call);
	return pass_error(&call, err);
}

static int run_gone(struct machine *machine, struct guest_call *call)
{
	(void)call;
	machine_pause(machine, MACHINE_POSTMIGRATE);
	return 0;
}

static void machine_gone(struct guest *guest, bool in_doubt)
{
	struct guest_call call = {.run = run_gone};
	if (in_doubt)
		log_error("migration: the right to run was given away and nobody answered: look whether the "
			  "machine runs on the other side before anything else; it stays paused here");
	(void)call_machine(guest, &call);
}

static int run_throttle(struct machine *machine, struct guest_call *call)
{
	return machine_throttle(machine, call->number, &call->err);
}

static void machine_slow_down(struct guest *guest, unsigned percent)
{
	struct guest_call call = {.run = run_throttle, .number = percent};
	if (call_machine(guest, &call) < 0 && call.result != -ECANCELED)
		log_warn("migration: %s", call.err.text);
}

/* ---- the destination ---- */

static int run_accept(struct machine *machine, struct guest_call *call)
{
	const struct machine_config *ours = machine_config(machine);
	int r = guest_machine_check(ours, &call->err);
	if (r == 0)
		r = config_match(ours, call->data, call->bytes, &call->err);
	return r < 0 ? r : config_check_disks(ours, &call->err);
}

static int machine_accept(struct guest *guest, const char *config, size_t bytes, struct err *err)
{
	struct guest_call call = {.run = run_accept, .data = config, .bytes = bytes};
	(void)call_machine(guest, &call);
	return pass_error(&call, err);
}

/* The device tree wants its beginning aligned to 8 bytes, which it is not in a message. */
static int load_state(struct machine *machine, struct guest_call *call)
{
	struct state_file file;
	_cleanup_free_ void *aligned = malloc(call->bytes);
	if (!aligned)
		return err_sys(&call->err, -ENOMEM, "state");
	memcpy(aligned, call->data, call->bytes);
	int r = state_file_open(aligned, call->bytes, &file, &call->err);
	return r < 0 ? r : machine_load_state(machine, &file, true, &call->err);
}

static int run_rehearse(struct machine *machine, struct guest_call *call)
{
	int r = load_state(machine, call);
	return r < 0 ? r : machine_forget_state(machine, &call->err);
}

static int machine_rehearse(struct guest *guest, const void *state, size_t bytes, struct err *err)
{
	struct guest_call call = {.run = run_rehearse, .data = state, .bytes = bytes};
	(void)call_machine(guest, &call);
	return pass_error(&call, err);
}

static int run_partial(struct machine *machine, struct guest_call *call)
{
	machine_set_partial(machine, call->flag);
	return 0;
}

static int machine_lacks_pages(struct guest *guest, bool partial, struct err *err)
{
	struct guest_call call = {.run = run_partial, .flag = partial};
	(void)call_machine(guest, &call);
	return pass_error(&call, err);
}

/* Disks first: it is for them that this fails, if at all. */
static int run_load(struct machine *machine, struct guest_call *call)
{
	int r = machine_acquire(machine, &call->err);
	return r < 0 ? r : load_state(machine, call);
}

static int machine_load_all(struct guest *guest, const void *state, size_t bytes, struct err *err)
{
	struct guest_call call = {.run = run_load, .data = state, .bytes = bytes};
	(void)call_machine(guest, &call);
	return pass_error(&call, err);
}

static int run_run(struct machine *machine, struct guest_call *call)
{
	struct err err = ERR_INIT;
	if (call->flag)
		machine_continue(machine);
	else
		machine_pause(machine, MACHINE_PAUSED);
	if (machine_announce(machine, NULL, &err) < 0)
		log_warn("migration: the networks are not told that the machine is here: %s", err.text);
	return 0;
}

static int machine_run_here(struct guest *guest, bool running, struct err *err)
{
	struct guest_call call = {.run = run_run, .flag = running};
	(void)call_machine(guest, &call);
	return pass_error(&call, err);
}

/* ---- */

int guest_machine_check(const struct machine_config *config, struct err *err)
{
	for (size_t i = 0; i < config->device_count; i++)
		switch (config->devices[i].type) {
		case DEVICE_VHOST_USER:
			return err_set(
				err, -ENOTSUP,
				"devices.%zu: a vhost-user device cannot move: its back end writes to RAM "
				"without telling us, and what it knows of the guest stays with it",
				i);
		case DEVICE_PMEM:
			return err_set(
				err, -ENOTSUP,
				"devices.%zu: pmem cannot move: what the guest has written to it may lie in "
				"this host's memory only",
				i);
		default:
			break;
		}
	return 0;
}

static const struct guest_ops machine_ops = {
	.disks = machine_disks,
	.config = machine_config_text,
	.peek = machine_peek,
	.stop = machine_stop,
	.save = machine_save,
	.back = machine_back,
	.gone = machine_gone,
	.throttle = machine_slow_down,
	.accept = machine_accept,
	.rehearse = machine_rehearse,
	.partial = machine_lacks_pages,
	.load = machine_load_all,
	.run = machine_run_here,
};

void guest_machine_init(struct guest_machine *guest, struct machine *machine)
{
	*guest = (struct guest_machine){.guest = {&machine_ops, machine_memory(machine)},
					.machine = machine,
					.op = {.done = run_call}};
	pthread_mutex_init(&guest->lock, NULL);
	pthread_cond_init(&guest->changed, NULL);
}

void guest_machine_finish(struct guest_machine *guest)
{
	pthread_cond_destroy(&guest->changed);
	pthread_mutex_destroy(&guest->lock);
}
