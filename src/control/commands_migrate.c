/* Live migration: docs/migration.md. */
#include "control_impl.h"

#include "migrate/migrate.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- events ---- */

static void say_status(void *owner)
{
	struct control *control = owner;
	struct migrate_info info;
	migrate_query(control->migrate, &info);
	if (info.status == control->migrate_said)
		return;
	control->migrate_said = info.status;
	cJSON *data = cJSON_CreateObject();
	cJSON_AddStringToObject(data, "status", migrate_status_name(info.status));
	control_event(control, "MIGRATION", data);
}

static void say_incoming(void *owner)
{
	struct control *control = owner;
	struct migrate_info info;
	incoming_query(control->incoming, &info);
	if (info.status == control->incoming_said)
		return;
	control->incoming_said = info.status;
	cJSON *data = cJSON_CreateObject();
	cJSON_AddStringToObject(data, "status", migrate_status_name(info.status));
	control_event(control, "MIGRATION", data);
}

void control_set_incoming(struct control *control, struct incoming *incoming)
{
	control->incoming = incoming;
	if (incoming)
		incoming_watch(incoming, say_incoming, control);
}

int control_start_migrate(struct control *control, struct err *err)
{
	return migrate_create(control->machine, say_status, control, &control->migrate, err);
}

/* ---- one migration ---- */

static int start(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)ret;
	int r = values[1].flag ? migrate_resume(request->control->migrate, values[0].text, err)
			       : migrate_start(request->control->migrate, values[0].text, err);
	if (r == 0 && !values[1].flag) {
		request->control->migrate_said = MIGRATE_NONE; /* the same status may come again */
		say_status(request->control);
	}
	return r < 0 ? err_prepend(err, "migrate") : 0;
}

static int cancel(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)values, (void)ret;
	return migrate_cancel(request->control->migrate, err);
}

static int start_postcopy(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)values, (void)ret;
	int r = migrate_start_postcopy(request->control->migrate, err);
	return r < 0 ? err_prepend(err, "migrate-start-postcopy") : 0;
}

static int recover(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	struct incoming *incoming = request->control->incoming;
	(void)ret;
	int r = incoming ? incoming_recover(incoming, values[0].text, err)
			 : err_set(err, -EINVAL, "no machine came here (--incoming)");
	return r < 0 ? err_prepend(err, "migrate-recover") : 0;
}

static int resume_here(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	(void)values, (void)ret;
	int r = migrate_resume_here(request->control->migrate, err);
	return r < 0 ? err_prepend(err, "migrate-resume-here") : 0;
}

static void describe_ram(cJSON *ret, const struct migrate_info *info)
{
	cJSON *ram = cJSON_AddObjectToObject(ret, "ram");
	json_add_u64(ram, "total", info->total_bytes);
	json_add_u64(ram, "remaining", info->remaining_bytes);
	json_add_u64(ram, "transferred", info->sent_bytes);
	json_add_u64(ram, "duplicate", info->zero_pages);
	json_add_u64(ram, "normal", info->normal_pages);
	json_add_u64(ram, "normal-bytes", info->normal_pages * 4096);
	json_add_u64(ram, "page-size", 4096);
	json_add_u64(ram, "dirty-sync-count", info->rounds);
	json_add_u64(ram, "dirty-pages-rate", info->dirty_pages_per_second);
	json_add_u64(ram, "postcopy-requests", info->requests);
	cJSON_AddNumberToObject(ram, "mbps", (double)info->bytes_per_second * 8 / 1e6);
}

static int query(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	struct migrate_info info;
	(void)values, (void)err;
	migrate_query(request->control->migrate, &info);
	if (info.status == MIGRATE_NONE && request->control->incoming)
		incoming_query(request->control->incoming, &info);
	*ret = cJSON_CreateObject();
	if (info.status == MIGRATE_NONE)
		return 0;
	cJSON_AddStringToObject(*ret, "status", migrate_status_name(info.status));
	cJSON_AddStringToObject(*ret, "state", info.state);
	if (!info.is_incoming)
		json_add_u64(*ret, "total-time", info.total_ms);
	if (!info.is_incoming && (info.status == MIGRATE_COMPLETED || info.down_ms))
		json_add_u64(*ret, "downtime", info.down_ms);
	else if (info.expected_down_ms != UINT64_MAX)
		json_add_u64(*ret, "expected-downtime", info.expected_down_ms);
	describe_ram(*ret, &info);
	if (info.throttle_percent)
		json_add_u64(*ret, "cpu-throttle-percentage", info.throttle_percent);
	if (info.in_doubt)
		cJSON_AddTrueToObject(*ret, "in-doubt");
	if (info.err.code)
		cJSON_AddStringToObject(*ret, "error-desc", info.err.text);
	return 0;
}

/* ---- parameters ---- */

static const char *const compressions[] = {"none", "zstd", NULL};

static const char *const modes[] = {[MIGRATE_MODE_NORMAL] = "normal",
				    [MIGRATE_MODE_LOCAL] = "cpr-transfer",
				    [MIGRATE_MODE_LOCAL + 1] = NULL};

enum parameter {
	MODE,
	MAX_BANDWIDTH,
	DOWNTIME_LIMIT,
	CHANNELS,
	POSTCOPY,
	COMPRESSION,
	ZSTD_LEVEL,
	ZERO_COPY,
	AUTO_CONVERGE,
	THROTTLE_INITIAL,
	THROTTLE_INCREMENT,
	THROTTLE_MAX,
	ANNOUNCE_INITIAL,
	ANNOUNCE_MAX,
	ANNOUNCE_ROUNDS,
	ANNOUNCE_STEP,
	TLS_CREDS,
	TLS_HOSTNAME
};

static void set_number(const struct value *value, uint32_t *number)
{
	if (value->given)
		*number = (uint32_t)value->number;
}

static int set_text(const struct value *value, const char *name, char *text, size_t size, struct err *err)
{
	if (!value->given)
		return 0;
	int n = snprintf(text, size, "%s", value->text);
	return n < 0 || (size_t)n >= size ? err_set(err, -EINVAL, "%s: too long", name) : 0;
}

/* The level counts with compression on, whichever of the two was said first. */
static int set_compression(const struct value *values, struct migrate_params *params, struct err *err)
{
	bool on = values[COMPRESSION].given ? values[COMPRESSION].choice == 1 : params->zstd_level != 0;
	if (values[ZSTD_LEVEL].given && !on)
		return err_set(err, -EINVAL,
			       "multifd-zstd-level: only with \"multifd-compression\": \"zstd\"");
	if (!on)
		params->zstd_level = 0;
	else if (values[ZSTD_LEVEL].given)
		params->zstd_level = (uint32_t)values[ZSTD_LEVEL].number;
	else if (!params->zstd_level)
		params->zstd_level = 1;
	return 0;
}

static void set_announce(const struct value values[4], struct machine_announce *announce)
{
	set_number(&values[0], &announce->initial_ms);
	set_number(&values[1], &announce->max_ms);
	set_number(&values[2], &announce->rounds);
	set_number(&values[3], &announce->step_ms);
}

static int set_parameters(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	struct migrate *migrate = request->control->migrate;
	struct migrate_params params = *migrate_get_params(migrate);
	(void)ret;
	if (values[MODE].given)
		params.mode = (enum migrate_mode)values[MODE].choice;
	if (values[MAX_BANDWIDTH].given)
		params.max_bandwidth = values[MAX_BANDWIDTH].number;
	set_number(&values[DOWNTIME_LIMIT], &params.downtime_limit_ms);
	set_number(&values[CHANNELS], &params.channels);
	if (values[ZERO_COPY].given)
		params.zero_copy = values[ZERO_COPY].flag;
	if (values[POSTCOPY].given)
		params.postcopy = values[POSTCOPY].flag;
	if (values[AUTO_CONVERGE].given)
		params.auto_converge = values[AUTO_CONVERGE].flag;
	set_number(&values[THROTTLE_INITIAL], &params.throttle_initial);
	set_number(&values[THROTTLE_INCREMENT], &params.throttle_increment);
	set_number(&values[THROTTLE_MAX], &params.throttle_max);
	set_announce(&values[ANNOUNCE_INITIAL], &params.announce);
	int r = set_compression(values, &params, err);
	if (r == 0)
		r = set_text(&values[TLS_CREDS], "tls-creds", params.tls_creds, sizeof(params.tls_creds),
			     err);
	if (r == 0)
		r = set_text(&values[TLS_HOSTNAME], "tls-hostname", params.tls_hostname,
			     sizeof(params.tls_hostname), err);
	if (r == 0)
		r = migrate_set_params(migrate, &params, err);
	return r < 0 ? err_prepend(err, "migrate-set-parameters") : 0;
}

static int query_parameters(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	const struct migrate_params *params = migrate_get_params(request->control->migrate);
	(void)values, (void)err;
	*ret = cJSON_CreateObject();
	cJSON_AddStringToObject(*ret, "mode", modes[params->mode]);
	json_add_u64(*ret, "max-bandwidth", params->max_bandwidth);
	json_add_u64(*ret, "downtime-limit", params->downtime_limit_ms);
	json_add_u64(*ret, "multifd-channels", params->channels);
	cJSON_AddBoolToObject(*ret, "postcopy-ram", params->postcopy);
	cJSON_AddStringToObject(*ret, "multifd-compression", compressions[params->zstd_level != 0]);
	json_add_u64(*ret, "multifd-zstd-level", params->zstd_level ? params->zstd_level : 1);
	cJSON_AddBoolToObject(*ret, "zero-copy-send", params->zero_copy);
	cJSON_AddBoolToObject(*ret, "auto-converge", params->auto_converge);
	json_add_u64(*ret, "cpu-throttle-initial", params->throttle_initial);
	json_add_u64(*ret, "cpu-throttle-increment", params->throttle_increment);
	json_add_u64(*ret, "max-cpu-throttle", params->throttle_max);
	json_add_u64(*ret, "announce-initial", params->announce.initial_ms);
	json_add_u64(*ret, "announce-max", params->announce.max_ms);
	json_add_u64(*ret, "announce-rounds", params->announce.rounds);
	json_add_u64(*ret, "announce-step", params->announce.step_ms);
	cJSON_AddStringToObject(*ret, "tls-creds", params->tls_creds);
	cJSON_AddStringToObject(*ret, "tls-hostname", params->tls_hostname);
	return 0;
}

/* ---- the networks ---- */

static int announce_self(struct request *request, const struct value *values, cJSON **ret, struct err *err)
{
	struct control *control = request->control;
	struct machine_announce announce = migrate_get_params(control->migrate)->announce;
	(void)ret;
	set_announce(values, &announce);
	int r = machine_announce(control->machine, &announce, err);
	return r < 0 ? err_prepend(err, "announce-self") : 0;
}

#define OPTIONAL_UINT(n, from, to, what)                                                                     \
	{                                                                                                    \
		.name = (n), .type = ARG_UINT, .optional = true, .min = (from), .max = (to), .doc = (what)   \
	}

const struct command commands_migrate[] = {
	{{.name = "migrate",
	  .doc = "move the machine to another aerie (docs/migration.md); answers at once, query-migrate and "
		 "MIGRATION events tell the rest",
	  .args = {{.name = "uri",
		    .type = ARG_TEXT,
		    .min = 1,
		    .max = 4095,
		    .doc = "unix:PATH, tcp:HOST:PORT, fd:N or exec:COMMAND"},
		   {.name = "resume",
		    .type = ARG_BOOL,
		    .optional = true,
		    .doc = "go on with a migration that is paused in post-copy"}}},
	 start},
	{{.name = "migrate-start-postcopy",
	  .doc = "the machine under way (postcopy-ram was set) moves as soon as the other side is ready, and "
		 "its other pages follow; there is no way back"},
	 start_postcopy},
	{{.name = "migrate-recover",
	  .doc = "where a machine came to and is paused in post-copy: listen there for migrate with resume",
	  .args = {{.name = "uri", .type = ARG_TEXT, .min = 1, .max = 4095, .doc = "as for --incoming"}}},
	 recover},
	{{.name = "migrate_cancel", .doc = "end the migration under way; the machine runs on here"}, cancel},
	{{.name = "query-migrate", .doc = "the latest migration: how far, how fast, how it ended"}, query},
	{{.name = "migrate-set-parameters",
	  .doc = "for the next migration; max-bandwidth and downtime-limit also for the one under way",
	  .args = {[MODE] = {.name = "mode",
			     .type = ARG_CHOICE,
			     .optional = true,
			     .words = modes,
			     .doc = "cpr-transfer: RAM is handed over to an aerie on this host, not copied"},
		   [MAX_BANDWIDTH] =
			   {.name = "max-bandwidth",
			    .type = ARG_BYTES,
			    .optional = true,
			    .max = INT64_MAX,
			    .doc = "bytes a second while the guest runs, at least 1 MiB; 0: no limit"},
		   [DOWNTIME_LIMIT] = OPTIONAL_UINT("downtime-limit", 1, 2000000,
						    "ms for which the guest may stand still, by estimate"),
		   [CHANNELS] = OPTIONAL_UINT("multifd-channels", 0, MIGRATE_CHANNELS_MAX,
					      "further connections for pages"),
		   [POSTCOPY] = {.name = "postcopy-ram",
				 .type = ARG_BOOL,
				 .optional = true,
				 .doc = "get ready for migrate-start-postcopy"},
		   [COMPRESSION] = {.name = "multifd-compression",
				    .type = ARG_CHOICE,
				    .optional = true,
				    .words = compressions,
				    .doc = "of pages"},
		   [ZSTD_LEVEL] = OPTIONAL_UINT("multifd-zstd-level", 1, 19, "1 is the fastest"),
		   [ZERO_COPY] =
			   {.name = "zero-copy-send",
			    .type = ARG_BOOL,
			    .optional = true,
			    .doc = "the kernel takes pages from their message when they leave; over tcp: "
				   "without TLS and compression, and a loss over loopback"},
		   [AUTO_CONVERGE] =
			   {.name = "auto-converge",
			    .type = ARG_BOOL,
			    .optional = true,
			    .doc = "slow the vCPUs down when they write faster than the connection carries"},
		   [THROTTLE_INITIAL] =
			   OPTIONAL_UINT("cpu-throttle-initial", 1, 99, "by how much at first, percent"),
		   [THROTTLE_INCREMENT] =
			   OPTIONAL_UINT("cpu-throttle-increment", 1, 99, "and each further time"),
		   [THROTTLE_MAX] = OPTIONAL_UINT("max-cpu-throttle", 1, 99, "at most"),
		   [ANNOUNCE_INITIAL] = OPTIONAL_UINT("announce-initial", 0, 100000,
						      "ms from the first to the second time that the "
						      "networks are told, where the machine arrives"),
		   [ANNOUNCE_MAX] = OPTIONAL_UINT("announce-max", 0, 100000, "ms between two, at most"),
		   [ANNOUNCE_ROUNDS] =
			   OPTIONAL_UINT("announce-rounds", 0, 1000, "how often; 0: they are not told"),
		   [ANNOUNCE_STEP] = OPTIONAL_UINT("announce-step", 0, 10000, "ms more each further time"),
		   [TLS_CREDS] =
			   {.name = "tls-creds",
			    .type = ARG_TEXT,
			    .optional = true,
			    .max = 4095,
			    .doc = "folder with ca-cert.pem, client-cert.pem, client-key.pem; empty: no TLS"},
		   [TLS_HOSTNAME] =
			   {.name = "tls-hostname",
			    .type = ARG_TEXT,
			    .optional = true,
			    .max = MIGRATE_HOSTNAME_MAX - 1,
			    .doc = "whom the other side's certificate must name; empty: the URI's host"}}},
	 set_parameters},
	{{.name = "query-migrate-parameters", .doc = "what migrate-set-parameters has set"},
	 query_parameters},
	{{.name = "migrate-resume-here",
	  .doc = "after a migration that ended in doubt, when you have seen that the machine does not run on "
		 "the "
		 "other side: it runs on here"},
	 resume_here},
	{{.name = "announce-self",
	  .doc = "tell the networks where the machine is, as after a migration; what is not given is as "
		 "migrate-set-parameters has it",
	  .args = {OPTIONAL_UINT("initial", 0, 100000, "ms from the first time to the second"),
		   OPTIONAL_UINT("max", 0, 100000, "ms between two, at most"),
		   OPTIONAL_UINT("rounds", 1, 1000, "how often"),
		   OPTIONAL_UINT("step", 0, 10000, "ms more each further time")}},
	 announce_self},
	{{.name = NULL}, NULL},
};
