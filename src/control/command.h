/*
 * What the control socket can do: const tables of commands, one for each commands_*.c.
 *
 * A new command is a row in such a file; a new file is a line in the list in command.c. Arguments are checked
 * against the row before its function sees them: types, ranges, missing and unknown ones.
 */
#ifndef AERIE_SRC_CONTROL_COMMAND_H
#define AERIE_SRC_CONTROL_COMMAND_H

#include "base/err.h"
#include "control/commands.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct control;

/*
 * One command under way. Its function gets it and either answers at once (returns 0, or a negative errno with
 * a message) or returns COMMAND_LATER, keeps the request, and ends it later with exactly one of
 * request_return and request_fail. The client may be gone by then; the request stays valid until it is ended.
 * Whoever answers later has a job (job.h), whose `finish` ends the request before the control socket goes.
 * The machine's thread only.
 */
struct request {
	struct control *control;
	const struct command *command;
	struct session *session; /* private: who waits; NULL: nobody any more */
	cJSON *id;		 /* private: NULL: none */
};

void request_return(struct request *request, cJSON *value); /* owned from here; NULL: {} */
void request_fail(struct request *request, const struct err *err);

enum { COMMAND_LATER = 1 };

/* The arguments as the row names them, in its order. What was not given is false, 0 and NULL. */
struct value {
	bool given;
	bool flag;	   /* ARG_BOOL */
	uint64_t number;   /* ARG_UINT, ARG_BYTES */
	size_t choice;	   /* ARG_CHOICE: index in its words */
	const char *text;  /* ARG_TEXT, ARG_PATH, ARG_CHOICE; borrowed from the request, until the function
			      returns */
	const cJSON *json; /* any; numbers are cJSON_Raw, see config/json.h */
};

/*
 * On success *ret may be left NULL for {}. Error classes follow the errno: -ENODEV is DeviceNotFound, -ENXIO
 * DeviceNotActive, -ENOSYS KVMMissingCap, everything else GenericError.
 */
typedef int command_function(struct request *request, const struct value *values, cJSON **ret,
			     struct err *err);

struct command {
	struct command_info info;
	command_function *run;
};

/* Ends with a row without a name. */
extern const struct command commands_machine[];
extern const struct command commands_devices[];
extern const struct command commands_stats[];
extern const struct command commands_jobs[];
extern const struct command commands_snapshot[];
extern const struct command commands_nested[];
extern const struct command commands_migrate[];

/* Neither waits for the guest or a device nor looks at RAM: goes while pages of it are missing, too. */
bool command_is_quick(const struct command *command);

/* Is for the guest, and would be lost in a machine that has another's place, or has left its own. */
bool command_changes_guest(const struct command *command);

/* All of them; ends with NULL. */
extern const struct command *const command_tables[];

const struct command *command_find(const struct command *const *tables, const char *name);
/* The nearest name, or NULL. */
const char *command_nearest(const struct command *const *tables, const char *name);

/* `arguments`: the JSON object, or NULL. `ret` has COMMAND_ARGS_MAX entries. -EINVAL with a message that
 * names argument, value and what is accepted. */
int command_values(const struct command_info *info, const cJSON *arguments, struct value *ret,
		   struct err *err);

/* Exact, where cJSON would go through a double. NULL when out of memory, as cJSON's own. */
cJSON *json_add_u64(cJSON *object, const char *name, uint64_t value);
cJSON *json_u64(uint64_t value);

#endif
