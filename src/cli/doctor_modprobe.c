/*
 * modprobe.d(5), as far as one needs it for one option: `options MODULE name=value ...` lines in *.conf of
 * five folders. A file hides files of the same name in later folders; what is left takes effect in the order
 * of the file names, and the last setting wins, because modprobe hands all of them to the kernel in that
 * order.
 */
#include "base/cleanup.h"
#include "doctor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char *const folders[] = {
	"/etc/modprobe.d",     "/run/modprobe.d", "/usr/local/lib/modprobe.d",
	"/usr/lib/modprobe.d", "/lib/modprobe.d",
};

struct conf_file {
	char path[256];	  /* as seen from the root */
	const char *name; /* in path */
};

struct conf_files {
	size_t count;
	struct conf_file *list;
};

static const char *below(const char *root)
{
	return root ? root : "";
}

/* Module and option names may be spelled with dashes or underscores. */
static bool same_name(const char *a, size_t len, const char *b)
{
	if (strlen(b) != len)
		return false;
	for (size_t i = 0; i < len; i++)
		if ((a[i] == '-' ? '_' : a[i]) != (b[i] == '-' ? '_' : b[i]))
			return false;
	return true;
}

/* As the kernel reads a bool: a bare name is yes, and only the first letters count. */
static bool value_is_on(const char *value)
{
	if (*value != '=')
		return true;
	return strchr("yY1", value[1]) ? value[1] != '\0' : strncasecmp(value + 1, "on", 2) == 0;
}

/* Where a line stands in `options MODULE name=value ...`, which may go on after a backslash at its end. */
struct parser {
	unsigned word; /* 0: the command, 1: the module, then options */
	bool ours;
};

/* One physical line: whether it sets the option, and what it leaves it at. */
static bool line_sets(struct parser *parser, char *line, const char *module, const char *option, bool *ret_on)
{
	static const char blanks[] = " \t\n";
	bool found = false;
	char *state, *backslash = strstr(line, "\\\n");
	if (backslash)
		*backslash = '\0';
	for (char *word = strtok_r(line, blanks, &state); word; word = strtok_r(NULL, blanks, &state)) {
		size_t len = strcspn(word, "=");
		if (parser->word == 0)
			parser->ours = strcmp(word, "options") == 0;
		else if (parser->word == 1)
			parser->ours = parser->ours && same_name(word, strlen(word), module);
		else if (parser->ours && same_name(word, len, option)) {
			*ret_on = value_is_on(word + len);
			found = true;
		}
		parser->word++;
	}
	if (!backslash)
		*parser = (struct parser){0};
	return found;
}

static int settings_add(struct modprobe_settings *settings, const char *path, int line, bool on)
{
	if (settings->count == MODPROBE_SETTINGS_MAX)
		return -E2BIG;
	struct modprobe_setting *setting = &settings->list[settings->count++];
	*setting = (struct modprobe_setting){.line = line, .on = on};
	(void)snprintf(setting->file, sizeof(setting->file), "%s", path);
	return 0;
}

static int read_file(const char *root, const char *path, const char *module, const char *option,
		     struct modprobe_settings *settings)
{
	char full[PATH_MAX];
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	struct parser parser = {0};
	int number = 1, r = 0;
	(void)snprintf(full, sizeof(full), "%s%s", below(root), path);
	FILE *file = fopen(full, "re");
	if (!file)
		return 0; /* gone, or not for us to read */
	for (; r == 0 && getline(&line, &size, file) >= 0; number++) {
		bool on = false;
		if (line_sets(&parser, line, module, option, &on))
			r = settings_add(settings, path, number, on);
	}
	(void)fclose(file);
	return r;
}

static bool is_conf(const char *name)
{
	size_t len = strlen(name);
	return len > 5 && name[0] != '.' && strcmp(name + len - 5, ".conf") == 0;
}

static int conf_files_add(struct conf_files *files, const char *folder, const char *name)
{
	for (size_t i = 0; i < files->count; i++)
		if (strcmp(strrchr(files->list[i].path, '/') + 1, name) == 0)
			return 0; /* hidden by an earlier folder */
	struct conf_file *list = realloc(files->list, (files->count + 1) * sizeof(*list));
	if (!list)
		return -ENOMEM;
	files->list = list;
	int len = snprintf(list[files->count].path, sizeof(list->path), "%s/%s", folder, name);
	if (len < (int)sizeof(list->path))
		files->count++;
	return 0;
}

static int conf_files_collect(const char *root, struct conf_files *files)
{
	int r = 0;
	for (size_t i = 0; i < ARRAY_LEN(folders) && r == 0; i++) {
		char path[PATH_MAX];
		(void)snprintf(path, sizeof(path), "%s%s", below(root), folders[i]);
		DIR *dir = opendir(path);
		struct dirent *entry;
		while (dir && r == 0 && (entry = readdir(dir)))
			if (is_conf(entry->d_name))
				r = conf_files_add(files, folders[i], entry->d_name);
		if (dir)
			(void)closedir(dir);
	}
	return r;
}

static int by_name(const void *a, const void *b)
{
	const struct conf_file *x = a, *y = b;
	return strcmp(strrchr(x->path, '/'), strrchr(y->path, '/'));
}

int modprobe_settings_read(const char *root, const char *module, const char *option,
			   struct modprobe_settings *ret)
{
	struct conf_files files = {0};
	*ret = (struct modprobe_settings){0};
	int r = conf_files_collect(root, &files);
	if (files.count)
		qsort(files.list, files.count, sizeof(files.list[0]), by_name);
	for (size_t i = 0; i < files.count && r == 0; i++)
		r = read_file(root, files.list[i].path, module, option, ret);
	free(files.list);
	return r;
}

/* Our own file */

static bool own_file_has(const char *root, const char *module, const char *const *options)
{
	for (; *options; options++) {
		char name[64];
		struct modprobe_settings settings = {0};
		(void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(*options, "="), *options);
		if (read_file(root, MODPROBE_OWN_FILE, module, name, &settings) < 0 || settings.count == 0 ||
		    !settings.list[settings.count - 1].on)
			return false;
	}
	return true;
}

/* Copies to the end, and ends the last line if that was forgotten. */
static int copy_file(FILE *from, FILE *to)
{
	char buf[4096];
	size_t n;
	bool ended = true;
	while ((n = fread(buf, 1, sizeof(buf), from)) > 0) {
		if (fwrite(buf, 1, n, to) != n)
			return -EIO;
		ended = buf[n - 1] == '\n';
	}
	if (ferror(from))
		return -EIO;
	return ended || fputc('\n', to) != EOF ? 0 : -EIO;
}

static int write_amended(const char *path, FILE *to, const char *module, const char *const *options)
{
	FILE *from = fopen(path, "re");
	if (!from && errno != ENOENT)
		return -errno;
	int r = 0;
	if (from) {
		r = copy_file(from, to);
		(void)fclose(from);
	} else {
		(void)fputs(
			"# Written by `aerie doctor --fix --persist`: guests may run guests of their own.\n",
			to);
	}
	(void)fprintf(to, "options %s", module);
	for (; *options; options++)
		(void)fprintf(to, " %s", *options);
	(void)fputc('\n', to);
	if (r == 0 && (fflush(to) || ferror(to) || fsync(fileno(to)) < 0))
		r = -EIO;
	return r;
}

/* A whole new file beside the old one, then renamed over it: nobody ever reads half of it. */
int modprobe_own_file_write(const char *root, const char *module, const char *const *options, struct err *err)
{
	char path[PATH_MAX], fresh[PATH_MAX + 8], folder[PATH_MAX];
	if (own_file_has(root, module, options))
		return 0;
	(void)snprintf(path, sizeof(path), "%s" MODPROBE_OWN_FILE, below(root));
	(void)snprintf(fresh, sizeof(fresh), "%s.new", path);
	(void)snprintf(folder, sizeof(folder), "%s/etc", below(root));
	(void)mkdir(folder, 0755);
	(void)snprintf(folder, sizeof(folder), "%s%s", below(root), folders[0]);
	(void)mkdir(folder, 0755); /* where these are missing; what else can go wrong shows at once */
	int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	FILE *to = fd < 0 ? NULL : fdopen(fd, "w");
	if (!to) {
		int error = errno;
		(void)close_fd(fd);
		return err_sys(err, -error, "%s", fresh);
	}
	int r = write_amended(path, to, module, options);
	if (fclose(to) && r == 0)
		r = -EIO;
	if (r == 0 && rename(fresh, path) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlink(fresh);
		return err_sys(err, r, "%s", path);
	}
	return 1;
}
