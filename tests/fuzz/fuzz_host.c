/*
 * A recorded host, as somebody may have written it, and what is computed from it: the resolver, the
 * comparison and the baseline take every word of it as it is.
 *
 * Rules: a result or a message that names the file; what is printed reads back as the same text; a guest made
 * on a host runs on that host, whatever it is, and so does the baseline of it with itself.
 */
#include "fuzz.h"

#include "base/cleanup.h"
#include "cpu/compare.h"
#include "cpu/record.h"

#include <errno.h>
#include <string.h>

static void check_round_trip(const struct cpu_host *host)
{
	_cleanup_free_ char *text = cpu_record_print(host);
	_cleanup_free_ struct cpu_host *again = calloc(1, sizeof(*again));
	struct err err = ERR_INIT;
	FUZZ_CHECK(text && again);
	FUZZ_CHECK(cpu_record_parse("h", text, strlen(text), again, &err) == 0);
	_cleanup_free_ char *text_again = cpu_record_print(again);
	FUZZ_CHECK(text_again && strcmp(text, text_again) == 0);
}

static void count_one(const struct cpu_obstacle *obstacle, void *data)
{
	FUZZ_CHECK(obstacle->name[0] && obstacle->why[0]);
	++*(int *)data;
}

static void check_moves(const struct cpu_host *host, const struct cpu_config *asked)
{
	struct err err = ERR_INIT;
	int found = 0, count = cpu_compare(host, asked, NESTED_AUTO, host, count_one, &found, &err);
	FUZZ_CHECK(count == 0 || (count < 0 && err.text[0]));
	FUZZ_CHECK(found == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct cpu_config config;
	_cleanup_free_ struct cpu_host *host = calloc(1, sizeof(*host));
	struct err err = ERR_INIT;
	FUZZ_CHECK(host != NULL);
	int rc = cpu_record_parse("h", (const char *)data, size, host, &err);
	if (rc) {
		FUZZ_CHECK(rc == -EINVAL && strncmp(err.text, "h:", 2) == 0);
		return 0;
	}
	check_round_trip(host);
	config = (struct cpu_config){.model = "host"};
	check_moves(host, &config);
	const struct cpu_host *pair[] = {host, host};
	static const char *const names[] = {"a", "b"};
	rc = cpu_baseline(pair, names, 2, &config, &err);
	if (rc == 0)
		check_moves(host, &config);
	else
		FUZZ_CHECK(err.text[0]);
	return 0;
}
