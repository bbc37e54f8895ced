/* What came back, for people: "key: value" lines, and a table where a list has one shape. */
#include "ctl.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "config/json.h"

#include <stdio.h>
#include <string.h>

enum { COLUMNS_MAX = 16, CELL_BYTES = 256, COLUMN_WIDTH_MAX = 60 };

static bool is_leaf(const cJSON *value)
{
	return !cJSON_IsObject(value) && !cJSON_IsArray(value);
}

const char *ctl_text(const cJSON *value, char *text, size_t size)
{
	size_t used = 0;
	if (!cJSON_IsString(value))
		return json_describe(value, text, size);
	for (const unsigned char *p = (const unsigned char *)value->valuestring; *p && used + 1 < size; p++) {
		bool c1 = p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0; /* also moves cursors */
		text[used++] = *p < 0x20 || *p == 0x7f || c1 ? '?' : (char)*p;
		p += c1;
	}
	text[used] = '\0';
	return text;
}

/* ---- tables ---- */

/* The columns that all entries of `list` have in common as leaves; 0: no table. */
static size_t table_columns(const cJSON *list, const char *columns[COLUMNS_MAX])
{
	const cJSON *entry, *cell;
	size_t count = 0;
	cJSON_ArrayForEach(cell, list->child)
	{
		if (count == COLUMNS_MAX || !cell->string || !is_leaf(cell))
			return 0;
		columns[count++] = cell->string;
	}
	cJSON_ArrayForEach(entry, list)
	{
		size_t at = 0;
		cJSON_ArrayForEach(cell, entry)
		{
			if (!cell->string || !is_leaf(cell) || at == count ||
			    strcmp(columns[at++], cell->string) != 0)
				return 0;
		}
		if (at != count)
			return 0;
	}
	return count;
}

static void print_cell(const char *text, size_t width, bool last, int indent)
{
	int pad = last || strlen(text) >= width ? 0 : (int)(width - strlen(text));
	print_out("%*s%s%*s%s", indent, "", text, pad, "", last ? "\n" : "  ");
}

static void print_table(const cJSON *list, const char *const *columns, size_t count, int indent)
{
	size_t width[COLUMNS_MAX], at;
	char text[CELL_BYTES];
	const cJSON *entry, *cell;
	for (size_t i = 0; i < count; i++)
		width[i] = strlen(columns[i]);
	cJSON_ArrayForEach(entry, list)
	{
		at = 0;
		cJSON_ArrayForEach(cell, entry)
		{
			size_t len = strlen(ctl_text(cell, text, sizeof(text)));
			len = len > COLUMN_WIDTH_MAX ? COLUMN_WIDTH_MAX : len;
			width[at] = len > width[at] ? len : width[at];
			at++;
		}
	}
	for (size_t i = 0; count > 1 && i < count; i++)
		print_cell(columns[i], width[i], i + 1 == count, i ? 0 : indent);
	cJSON_ArrayForEach(entry, list)
	{
		at = 0;
		cJSON_ArrayForEach(cell, entry)
		{
			print_cell(ctl_text(cell, text, sizeof(text)), width[at], at + 1 == count,
				   at ? 0 : indent);
			at++;
		}
	}
}

/* ---- the rest; recursion is bounded by JSON_DEPTH_MAX ---- */

static void print_value(const cJSON *value, int indent);

static void print_member(const cJSON *member, int indent)
{
	char text[4096];
	if (is_leaf(member)) {
		print_out("%*s%s: %s\n", indent, "", member->string, ctl_text(member, text, sizeof(text)));
	} else if (!member->child) {
		print_out("%*s%s: none\n", indent, "", member->string);
	} else {
		print_out("%*s%s:\n", indent, "", member->string);
		print_value(member, indent + 2);
	}
}

static void print_list(const cJSON *list, int indent)
{
	const char *columns[COLUMNS_MAX];
	size_t count = table_columns(list, columns);
	const cJSON *item;
	if (count) {
		print_table(list, columns, count, indent);
		return;
	}
	cJSON_ArrayForEach(item, list)
	{
		print_value(item, indent);
		if (item->next && !is_leaf(item))
			print_out("\n");
	}
}

static void print_value(const cJSON *value, int indent)
{
	char text[4096];
	const cJSON *member;
	if (is_leaf(value))
		print_out("%*s%s\n", indent, "", ctl_text(value, text, sizeof(text)));
	else if (cJSON_IsArray(value))
		print_list(value, indent);
	else
		cJSON_ArrayForEach(member, value) print_member(member, indent);
}

void ctl_print(const cJSON *value)
{
	print_value(value, 0);
}

int ctl_print_json(const cJSON *value)
{
	_cleanup_free_ char *text = cJSON_PrintUnformatted(value);
	if (!text)
		return -ENOMEM;
	print_out("%s\n", text);
	return 0;
}
