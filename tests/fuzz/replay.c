/* Runs a fuzz target over every file of a corpus, and over each cut short, with any compiler. */
#include "fuzz.h"

#include <dirent.h>
#include <string.h>

enum { INPUT_BYTES_MAX = 1 << 16 };

static int replay_file(const char *folder, const char *name)
{
	char path[512];
	static uint8_t data[INPUT_BYTES_MAX];
	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	FILE *file = fopen(path, "re");
	if (!file)
		return -1;
	size_t size = fread(data, 1, sizeof(data), file);
	if (fclose(file) != 0)
		return -1;
	for (size_t len = size;; len = len * 7 / 8) {
		uint8_t *copy =
			malloc(len ? len : 1); /* of the exact size, so that ASan sees a read beyond it */
		if (!copy)
			return -1;
		memcpy(copy, data, len);
		(void)LLVMFuzzerTestOneInput(copy, len);
		free(copy);
		if (!len)
			return 0;
	}
}

int main(int argc, char **argv)
{
	DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
	size_t count = 0;
	if (!folder) {
		(void)fprintf(stderr, "usage: %s CORPUS (a folder)\n", argv[0]);
		return EXIT_FAILURE;
	}
	for (struct dirent *entry; (entry = readdir(folder));) {
		if (entry->d_name[0] == '.')
			continue;
		if (replay_file(argv[1], entry->d_name)) {
			perror(entry->d_name);
			return EXIT_FAILURE;
		}
		count++;
	}
	(void)closedir(folder);
	(void)printf("%zu inputs\n", count);
	return count ? EXIT_SUCCESS : EXIT_FAILURE;
}
