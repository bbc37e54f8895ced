#include "config/config.h"

#include "base/cleanup.h"
#include "config/json_scan.h"
#include "decode.h"
#include "encode.h"
#include "override.h"
#include "reference.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { CONFIG_BYTES_MAX = 1 << 20 };

/* The result and what owns its strings. */
struct loaded_config {
	struct machine_config config;
	cJSON *tree;
};

void config_free(struct machine_config *config)
{
	if (!config)
		return;
	struct loaded_config *loaded = container_of(config, struct loaded_config, config);
	cJSON_Delete(loaded->tree);
	cJSON_free(loaded);
}

/* What an operator wrote stands in messages, and a message is one line for a terminal. */
static int make_printable(struct err *err)
{
	bool utf8 = json_is_utf8(err->text); /* not when the text was cut within a character */
	for (char *p = err->text; *p; p++) {
		unsigned char c = (unsigned char)*p;
		if (c < 0x20 || c == 0x7f || (c > 0x7f && !utf8))
			*p = '?';
	}
	return err->code;
}

static int parse(struct decode *d, const char *text, size_t len, size_t set_count,
		 struct machine_config **ret)
{
	if (len > CONFIG_BYTES_MAX)
		return err_set(d->err, -EFBIG, "%s: larger than %d bytes", d->file, CONFIG_BYTES_MAX);
	struct loaded_config *loaded = cJSON_malloc(sizeof(*loaded));
	if (!loaded)
		return err_sys(d->err, -ENOMEM, "%s", d->file);
	memset(loaded, 0, sizeof(*loaded));
	if (json_parse(d->file, text, len, 0, &loaded->tree, d->err) ||
	    override_all(d, loaded->tree, set_count) || decode_root(d, loaded->tree, &loaded->config)) {
		config_free(&loaded->config);
		return d->err->code;
	}
	*ret = &loaded->config;
	return 0;
}

int config_parse(const char *path, const char *text, size_t len, const char *const *set, size_t set_count,
		 struct machine_config **ret, struct err *err)
{
	const char *slash = strrchr(path, '/');
	struct decode d = {
		.object = &machine_object,
		.file = path,
		.folder_bytes = slash ? (int)(slash + 1 - path) : 0,
		.set = set,
		.err = err,
	};
	return parse(&d, text, len, set_count, ret) ? make_printable(err) : 0;
}

/* Read all of `fd`, one byte more than allowed at most, so that the caller sees a file that is too large. */
static int read_all(int fd, char **ret, size_t *ret_len)
{
	_cleanup_free_ char *text = malloc(CONFIG_BYTES_MAX + 1);
	size_t used = 0;
	if (!text)
		return -ENOMEM;
	while (used <= CONFIG_BYTES_MAX) {
		ssize_t n = read(fd, text + used, CONFIG_BYTES_MAX + 1 - used);
		if (n == 0)
			break;
		if (n < 0 && errno != EINTR)
			return -errno;
		used += n > 0 ? (size_t)n : 0;
	}
	*ret = take_ptr(text);
	*ret_len = used;
	return 0;
}

static int read_file(const char *path, char **ret, size_t *ret_len, struct err *err)
{
	/* O_NONBLOCK: opening a FIFO must not wait for its writer, only to be refused. */
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, -errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "%s: %s", path,
			       S_ISDIR(st.st_mode) ? strerror(EISDIR)
						   : "Not a regular file (use - for standard input)");
	int rc = read_all(fd, ret, ret_len);
	return rc ? err_sys(err, rc, "%s", path) : 0;
}

int config_load(const char *path, const char *const *set, size_t set_count, struct machine_config **ret,
		struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	bool standard_input = strcmp(path, "-") == 0;
	if (standard_input) {
		int rc = read_all(STDIN_FILENO, &text, &len);
		if (rc)
			return err_sys(err, rc, "standard input");
		path = "<stdin>";
	} else if (read_file(path, &text, &len, err)) {
		return make_printable(err);
	}
	return config_parse(path, text, len, set, set_count, ret, err);
}

char *config_print(const struct machine_config *config)
{
	return config_print_in(config, NULL);
}

char *config_print_in(const struct machine_config *config, const char *folder)
{
	_cleanup_json_ cJSON *tree = encode_object(&machine_object, config, folder);
	return tree ? cJSON_Print(tree) : NULL;
}

void config_reference(void (*line)(const char *row, void *data), void *data)
{
	reference_walk(&machine_object, line, data);
}
