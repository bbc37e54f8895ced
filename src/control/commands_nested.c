/* What L2 is doing: the same report of a live machine that `aerie inspect` gives of a snapshot. */
#include "base/cleanup.h"
#include "control_impl.h"
#include "cpu/nested_view.h"

#include <errno.h>

static int report(struct machine *machine, struct state_writer *writer, char **ret, struct err *err)
{
	const void *blob = NULL;
	size_t bytes = 0;
	struct state_file file;
	int r = machine_save_vcpus(machine, writer, err);
	if (r == 0)
		r = state_writer_finish(writer, &blob, &bytes, err);
	if (r == 0)
		r = state_file_open(blob, bytes, &file, err);
	return r < 0 ? r : nested_report(&file, true, ret, err);
}

static int query_nested(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	struct state_writer *writer = NULL;
	_cleanup_free_ char *text = NULL;
	(void)values;
	int r = state_writer_create(&writer, err);
	if (r == 0)
		r = report(request->control->machine, writer, &text, err);
	state_writer_destroy(writer);
	if (r < 0)
		return r;
	*ret = cJSON_CreateObject();
	cJSON *list = cJSON_Parse(text);
	if (!*ret || !list || !cJSON_AddItemToObject(*ret, "vcpus", list)) {
		cJSON_Delete(list);
		cJSON_Delete(*ret);
		*ret = NULL;
		return err_sys(err, -ENOMEM, "query-nested");
	}
	return 0;
}

const struct command commands_nested[] = {
	{{.name = "query-nested",
	  .doc = "of each vCPU: does L1 or L2 run, where, and under which VMCS or VMCB; the vCPUs stop for "
		 "it"},
	 query_nested},
	{{.name = NULL}, NULL},
};
