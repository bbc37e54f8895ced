#include "doctor.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_kvm_target(const char *target)
{
	static const char file[] = "/dev/kvm", anonymous[] = "anon_inode:kvm-",
			  bracketed[] = "anon_inode:[kvm-";
	return strcmp(target, file) == 0 || strncmp(target, anonymous, strlen(anonymous)) == 0 ||
	       strncmp(target, bracketed, strlen(bracketed)) == 0;
}

static bool process_has_kvm(const char *root, const char *pid)
{
	char path[PATH_MAX];
	bool found = false;
	(void)snprintf(path, sizeof(path), "%s/proc/%s/fd", root ? root : "", pid);
	DIR *dir = opendir(path);
	struct dirent *entry;
	while (dir && !found && (entry = readdir(dir))) {
		char target[64];
		ssize_t len = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
		target[len < 0 ? 0 : len] = '\0';
		found = is_kvm_target(target);
	}
	if (dir)
		(void)closedir(dir);
	return found;
}

static void append_process(const char *root, const char *pid, char *names, size_t size)
{
	char path[PATH_MAX], name[32] = "";
	(void)snprintf(path, sizeof(path), "%s/proc/%s/comm", root ? root : "", pid);
	FILE *file = fopen(path, "re");
	if (file && fgets(name, sizeof(name), file))
		name[strcspn(name, "\n")] = '\0';
	if (file)
		(void)fclose(file);
	size_t used = strlen(names);
	(void)snprintf(names + used, size - used, "%s%s (pid %s)", used ? ", " : "", *name ? name : "?", pid);
}

static int is_pid(const struct dirent *entry)
{
	return entry->d_name[0] >= '1' && entry->d_name[0] <= '9';
}

size_t doctor_kvm_users(const char *root, char *names, size_t size)
{
	char path[PATH_MAX];
	struct dirent **pids;
	size_t users = 0;
	names[0] = '\0';
	(void)snprintf(path, sizeof(path), "%s/proc", root ? root : "");
	int count = scandir(path, &pids, is_pid, versionsort);
	for (int i = 0; i < count; i++) {
		if (process_has_kvm(root, pids[i]->d_name)) {
			append_process(root, pids[i]->d_name, names, size);
			users++;
		}
		free(pids[i]);
	}
	if (count >= 0)
		free(pids);
	return users;
}
