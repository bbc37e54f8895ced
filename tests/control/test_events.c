/* What devices tell, from the thread that tells it to the line that a client reads. */
#include "../../src/machine/machine.h"
#include "base/cleanup.h"
#include "control/control.h"

#include "harness.h"
#include "scratch.h"

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { DISK, BALLOON, EVENTS_MAX = 16 };

struct rig {
	char folder[64], socket[96];
	struct machine_config *config;
	struct machine *machine;
	struct control *control;
	struct device *devices[2];
	FILE *client;
	void (*act)(struct rig *rig);
	char *events[EVENTS_MAX]; /* data and name, without the time */
	double times[EVENTS_MAX];
	size_t count;
	struct err err;
};

static struct device *find(struct machine *machine, const char *class)
{
	struct device *device;
	for (size_t i = 0; (device = machine_device(machine, i)); i++)
		if (strcmp(device->class->name, class) == 0)
			return device;
	ck_abort_msg("no %s", class);
}

static void rig_init(struct rig *rig)
{
	const char *build = getenv("AERIE_BUILD");
	char text[1024];
	*rig = (struct rig){.err = ERR_INIT};
	ck_assert_ptr_nonnull(scratch_folder(rig->folder, sizeof(rig->folder), "events-XXXXXX"));
	(void)snprintf(rig->socket, sizeof(rig->socket), "%s/control", rig->folder);
	(void)snprintf(
		text, sizeof(text),
		"{\"memory\": {\"size\": \"64M\"}, \"boot\": {\"kernel\": \"%s/tests/native/hang.elf\"}, "
		"\"devices\": [{\"type\": \"disk\", \"path\": \"%s/disk\", \"on_error\": \"retry\"}, "
		"{\"type\": \"balloon\"}]}",
		build ? build : "build", rig->folder);
	char disk[96];
	(void)snprintf(disk, sizeof(disk), "%s/disk", rig->folder);
	int fd = open(disk, O_CREAT | O_RDWR, 0600);
	ck_assert(fd >= 0 && ftruncate(fd, 1 << 20) == 0 && close(fd) == 0);
	ck_assert_msg(config_parse("test", text, strlen(text), NULL, 0, &rig->config, &rig->err) == 0, "%s",
		      rig->err.text);
	ck_assert_msg(machine_create(rig->config, &rig->machine, &rig->err) == 0, "%s", rig->err.text);
	ck_assert_msg(control_create(rig->machine, rig->socket, &rig->control, &rig->err) == 0, "%s",
		      rig->err.text);
	rig->devices[DISK] = find(rig->machine, "disk");
	rig->devices[BALLOON] = find(rig->machine, "balloon");
}

static void rig_finish(struct rig *rig)
{
	char disk[96];
	(void)snprintf(disk, sizeof(disk), "%s/disk", rig->folder);
	control_destroy(rig->control);
	machine_destroy(rig->machine);
	config_free(rig->config);
	for (size_t i = 0; i < rig->count; i++)
		free(rig->events[i]);
	ck_assert(unlink(disk) == 0 && rmdir(rig->folder) == 0);
}

static void client_open(struct rig *rig)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char line[4096];
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", rig->socket);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	rig->client = fdopen(fd, "r+");
	ck_assert_ptr_nonnull(rig->client);
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), rig->client)); /* greeting */
	(void)fputs("{\"execute\": \"qmp_capabilities\"}\n", rig->client);
	(void)fflush(rig->client);
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), rig->client));
}

/* The next `count` events, as {"event": NAME, "data": {...}} in any order of members. */
static void client_read(struct rig *rig, size_t count)
{
	char line[4096];
	for (; count > 0; count--) {
		ck_assert_ptr_nonnull(fgets(line, sizeof(line), rig->client));
		ck_assert_uint_lt(rig->count, EVENTS_MAX);
		cJSON *event = cJSON_Parse(line);
		ck_assert_ptr_nonnull(event);
		cJSON *time = cJSON_DetachItemFromObject(event, "timestamp");
		rig->times[rig->count] = cJSON_GetObjectItem(time, "seconds")->valuedouble +
					 cJSON_GetObjectItem(time, "microseconds")->valuedouble / 1e6;
		rig->events[rig->count++] = cJSON_PrintUnformatted(event);
		cJSON_Delete(time);
		cJSON_Delete(event);
	}
}

static void *beside(void *arg)
{
	struct rig *rig = arg;
	client_open(rig);
	rig->act(rig);
	machine_ask_end(rig->machine);
	(void)fclose(rig->client);
	return NULL;
}

static void rig_run(struct rig *rig, void (*act)(struct rig *rig))
{
	pthread_t thread;
	int code;
	rig->act = act;
	ck_assert_int_eq(pthread_create(&thread, NULL, beside, rig), 0);
	ck_assert_msg(machine_run(rig->machine, &code, &rig->err) == 0, "%s", rig->err.text);
	pthread_join(thread, NULL);
}

static void tell_each(struct rig *rig)
{
	machine_news(rig->machine, rig->devices[BALLOON], DEVICE_BALLOON_CHANGED);
	client_read(rig, 1);
	machine_news(rig->machine, rig->devices[DISK], DEVICE_WRITE_FAILED | DEVICE_NO_SPACE);
	client_read(rig, 1);
	machine_news(rig->machine, rig->devices[DISK], DEVICE_READ_FAILED);
	client_read(rig, 1);
}

START_TEST(clients_hear_of_devices)
{
	static const char *const want[] = {
		"{\"event\":\"BALLOON_CHANGE\",\"data\":{\"actual\":67108864}}",
		"{\"event\":\"BLOCK_IO_ERROR\",\"data\":{\"device\":\"disk0\",\"qom-path\":\"disk0\","
		"\"node-name\":\"disk0\",\"operation\":\"write\",\"action\":\"retry\",\"nospace\":true,"
		"\"reason\":\"no space on the host\"}}",
		"{\"event\":\"BLOCK_IO_ERROR\",\"data\":{\"device\":\"disk0\",\"qom-path\":\"disk0\","
		"\"node-name\":\"disk0\",\"operation\":\"read\",\"action\":\"retry\",\"nospace\":false,"
		"\"reason\":\"input/output error of the host\"}}"};
	struct rig rig;
	rig_init(&rig);
	rig_run(&rig, tell_each);
	ck_assert_uint_eq(rig.count, ARRAY_LEN(want));
	for (size_t i = 0; i < rig.count; i++)
		ck_assert_str_eq(rig.events[i], want[i]);
	rig_finish(&rig);
}
END_TEST

static void tell_a_flood(struct rig *rig)
{
	for (unsigned i = 0; i < 100000; i++)
		machine_news(rig->machine, rig->devices[BALLOON], DEVICE_BALLOON_CHANGED);
	client_read(rig, 1);
	for (unsigned i = 0; i < 100000; i++)
		machine_news(rig->machine, rig->devices[BALLOON], DEVICE_BALLOON_CHANGED);
	client_read(rig, 1);
}

START_TEST(a_flood_is_an_event_a_second)
{
	struct rig rig;
	rig_init(&rig);
	rig_run(&rig, tell_a_flood);
	ck_assert(rig.times[1] - rig.times[0] > 0.99);
	rig_finish(&rig);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {clients_hear_of_devices, a_flood_is_an_event_a_second};
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		(void)printf("skipped: no usable /dev/kvm\n");
		return TEST_SKIP;
	}
	(void)close_fd(fd);
	return harness_run("events", tests, ARRAY_LEN(tests));
}
