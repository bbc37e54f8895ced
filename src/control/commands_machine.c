/* The machine as a whole: what it is, what it does, stopping it and setting it going. */
#include "control_impl.h"
#include "wire.h"

#include "cpu/vcpu.h"

#include <errno.h>
#include <stdio.h>

/* ---- what it is ---- */

static int query_version(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)request, (void)values, (void)err;
	*ret = wire_version();
	return 0;
}

static int query_commands(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)request, (void)values, (void)err;
	const struct command_info *info;
	*ret = cJSON_CreateArray();
	for (size_t i = 0; (info = control_command(i)); i++) {
		cJSON *entry = cJSON_CreateObject();
		cJSON_AddStringToObject(entry, "name", info->name);
		cJSON_AddItemToArray(*ret, entry);
	}
	return 0;
}

static int query_name(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)values, (void)err;
	*ret = cJSON_CreateObject();
	cJSON_AddStringToObject(*ret, "name", machine_config(request->control->machine)->name);
	return 0;
}

static int query_kvm(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)request, (void)values, (void)err;
	*ret = cJSON_CreateObject(); /* there is no machine without */
	cJSON_AddTrueToObject(*ret, "enabled");
	cJSON_AddTrueToObject(*ret, "present");
	return 0;
}

static int query_memory(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)values, (void)err;
	*ret = cJSON_CreateObject();
	json_add_u64(*ret, "base-memory", machine_config(request->control->machine)->memory.size_bytes);
	return 0;
}

static int query_cpus(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	struct machine *machine = request->control->machine;
	const struct cpus_config *cpus = &machine_config(machine)->cpus;
	char path[32];
	(void)values, (void)err;
	*ret = cJSON_CreateArray();
	for (uint32_t i = 0; i < cpus->count; i++) {
		cJSON *entry = cJSON_CreateObject();
		json_add_u64(entry, "cpu-index", i);
		(void)snprintf(path, sizeof(path), "/machine/cpu[%u]", i);
		cJSON_AddStringToObject(entry, "qom-path", path);
		json_add_u64(entry, "thread-id", (uint64_t)vcpus_thread_id(machine_vcpus(machine), i));
		cJSON_AddStringToObject(entry, "target", "x86_64");
		cJSON *props = cJSON_AddObjectToObject(entry, "props");
		json_add_u64(props, "socket-id", i / cpus->threads / cpus->cores);
		json_add_u64(props, "core-id", i / cpus->threads % cpus->cores);
		json_add_u64(props, "thread-id", i % cpus->threads);
		cJSON_AddItemToArray(*ret, entry);
	}
	return 0;
}

/* ---- what it does ---- */

static int query_status(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	enum machine_status status = machine_status(request->control->machine);
	(void)values, (void)err;
	*ret = cJSON_CreateObject();
	cJSON_AddBoolToObject(*ret, "running", status == MACHINE_RUNNING);
	cJSON_AddStringToObject(*ret, "status", machine_status_name(status));
	return 0;
}

/* While something else has stopped the machine and will set it going again, nobody may. */
static int check_stoppable(const struct request *request, struct err *err)
{
	enum machine_status status = machine_status(request->control->machine);
	static const bool owned[] = {
		[MACHINE_SAVE_VM] = true,     [MACHINE_INMIGRATE] = true, [MACHINE_FINISH_MIGRATE] = true,
		[MACHINE_POSTMIGRATE] = true, [MACHINE_SHUTDOWN] = true,  [MACHINE_PANICKED] = true,
	};
	if (owned[status])
		return err_set(err, -EBUSY, "%s: not while the machine is in status \"%s\"",
			       request->command->info.name, machine_status_name(status));
	return 0;
}

static int stop(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)values, (void)ret;
	int r = check_stoppable(request, err);
	if (r == 0 && machine_status(request->control->machine) == MACHINE_RUNNING)
		machine_pause(request->control->machine, MACHINE_PAUSED);
	return r;
}

static int cont(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)values, (void)ret;
	int r = check_stoppable(request, err);
	if (r == 0)
		machine_continue(request->control->machine);
	return r;
}

static int system_reset(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)values, (void)ret, (void)err;
	machine_ask_reset(request->control->machine);
	return 0;
}

static int system_powerdown(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)values, (void)ret, (void)err;
	machine_ask_powerdown(request->control->machine);
	return 0;
}

static int quit(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)values, (void)ret, (void)err;
	machine_ask_end(request->control->machine);
	return 0;
}

const struct command commands_machine[] = {
	{{.name = "query-version", .doc = "aerie's version"}, query_version},
	{{.name = "query-commands", .doc = "the names of all commands"}, query_commands},
	{{.name = "query-name", .doc = "the machine's name"}, query_name},
	{{.name = "query-kvm", .doc = "always that KVM is used"}, query_kvm},
	{{.name = "query-memory-size-summary", .doc = "the size of RAM, in bytes"}, query_memory},
	{{.name = "query-cpus-fast", .doc = "the vCPUs, their threads and their places in the topology"},
	 query_cpus},
	{{.name = "query-status", .doc = "does the guest run, and if not, why"}, query_status},
	{{.name = "stop", .doc = "pause the guest"}, stop},
	{{.name = "cont", .doc = "let the guest run, or go on"}, cont},
	{{.name = "system_reset", .doc = "press the reset button"}, system_reset},
	{{.name = "system_powerdown", .doc = "press the power button; the guest decides what that means"},
	 system_powerdown},
	{{.name = "quit", .doc = "end aerie, as pulling the plug"}, quit},
	{{.name = NULL}, NULL},
};
